"""The fine-tuning loop: one seed is one run, bit for bit on a CPU, killed in between or not.

What a run consists of follows from its settings and samples: the adapter's first weights, the order
of the samples, dropout, and the learning rate of each step.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.files import cut_log, write_text, write_whole
from training.lora import (
    Adapter,
    Quantization,
    adapter_state,
    add_adapter,
    delta_norm,
    load_adapter_state,
    open_base,
    sha256_of,
)
from training.optim import Backend, MuonAdamW, Scale
from training.samples import Sample
from training.workers import Workers

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from transformers import PreTrainedModel

Optimizer = Literal["adamw", "muon"]
LEARNING_RATES: Final[dict[Optimizer, float]] = {"adamw": 2e-4, "muon": 5e-3}
CHECKPOINT, LOG, RESULT, ADAPTER = "checkpoint.pt", "log.jsonl", "result.json", "adapter"
IGNORED: Final = ("save_every", "validate_every")
"""Settings that may differ when a run goes on: they cannot change its adapter."""


class SftError(Exception):
    """A run that cannot begin or go on."""


class Diverged(SftError):
    """A loss or a gradient that is no finite number: a result, not a fault of the run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the result of a run.

    Attributes:
        model: the Hugging Face folder.
        optimizer: ``adamw`` or ``muon``.
        lr: peak learning rate.
        rank, alpha, dropout: of the adapter.
        seed: of the adapter's first weights, the order of the samples and dropout.
        epochs: times that each sample is seen.
        accumulation: samples of one step.
        warmup: share of the steps in which the learning rate rises; then it falls as a cosine.
        clip: largest norm of the gradient.
        weight_decay: decoupled; of both optimizers.
        scale, backend: of Muon, see `training.optim`.
        quantization: of the base.
        checkpointing: make activations again in the backward pass: slower, with less memory.
        validation: share of the documents that is not trained on.
        device: ``cpu`` or a card.
        save_every: steps between checkpoints.
        validate_every: steps between validations; 0 is one after each epoch.
    """

    model: str
    optimizer: Optimizer = "adamw"
    lr: float = LEARNING_RATES["adamw"]
    rank: int = 8
    alpha: float = 16
    dropout: float = 0.05
    seed: int = 0
    epochs: float = 3
    accumulation: int = 4
    warmup: float = 0.1
    clip: float = 1.0
    weight_decay: float = 0.0
    scale: Scale = "match_rms_adamw"
    backend: Backend = "polar"
    quantization: Quantization = "nf4"
    checkpointing: bool = False
    validation: float = 0.1
    device: str = "cpu"
    save_every: int = 20
    validate_every: int = 0

    @property
    def adapter(self) -> Adapter:
        """The adapter's shape."""
        return Adapter(self.rank, self.alpha, self.dropout)


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint."""

    step: int = 0
    tokens: int = 0
    learned: int = 0
    seconds: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One run in one folder: ``checkpoint.pt``, ``log.jsonl``, at its end ``adapter/``.

    Args:
        out: the folder; a run that is in it goes on.
        settings: of the run.
        rows: all samples; `split` takes the validation's share off.
        workers: which of several processes this is. Each takes its share of every window; the
            steps are those of one process but for the order in which float32 is summed.

    Raises:
        SftError: the folder holds a run of other settings or samples, there is nothing to train
            on, or a window does not divide among the workers.
        FileNotFoundError: there is no such model.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        rows: Sequence[Sample],
        workers: Workers | None = None,
    ) -> None:
        self.out, self.settings, self.workers = out, settings, workers or Workers()
        _refuse_uneven(settings.accumulation, self.workers.count)
        self.device = self.workers.device(settings.device)
        self.train, self.held = split(rows, settings.validation)
        if not self.train:
            raise SftError(f"{len(rows)} samples leave nothing to train on: build more")
        self.steps = math.ceil(len(self.train) * settings.epochs / settings.accumulation)
        self.order = self._order()
        self.progress = Progress()
        base = open_base(Path(settings.model), settings.quantization, self.device)
        _refuse_other_tokens(rows, base.config.vocab_size)
        if settings.checkpointing:
            _checkpoint_activations(base)
        self.model = add_adapter(base, settings.adapter, settings.seed)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.facts = {
            "settings": {k: v for k, v in asdict(settings).items() if k not in IGNORED},
            "initial_adapter": sha256_of(adapter_state(self.model)),
            "samples": _hash_of(self.train),
            "validation": _hash_of(self.held),
            "order": hashlib.sha256(repr(self.order).encode()).hexdigest(),
            "base": hash_of_files(Path(settings.model)),
        }
        self.optimizer = self._optimizer()
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._factor)
        out.mkdir(parents=True, exist_ok=True)
        self._resume()
        self._agree("begins elsewhere: all need one --out, on a disk that they share")

    @property
    def is_done(self) -> bool:
        """Whether all steps were taken and the adapter is written."""
        return (self.out / RESULT).exists()

    def run(self) -> dict[str, Any]:
        """Train to the end; returns what ``result.json`` holds."""
        if self.is_done:
            return dict(json.loads((self.out / RESULT).read_text(encoding="utf-8")))
        before, started = self.progress.seconds, time.monotonic()
        if self.progress.step == 0:
            self._evaluate()
        per_epoch = math.ceil(len(self.train) / self.settings.accumulation)
        validate_every = self.settings.validate_every or per_epoch
        with _bar(shown=self.workers.is_first) as bar:
            task = bar.add_task("training", total=self.steps, completed=self.progress.step)
            while self.progress.step < self.steps:
                row = self.step()
                self.progress.seconds = before + time.monotonic() - started
                self._log({**row, "seconds": round(self.progress.seconds, 2)})
                last = self.progress.step == self.steps
                if last or self.progress.step % validate_every == 0:
                    self._evaluate()
                if last or self.progress.step % self.settings.save_every == 0:
                    self.save()
                rate = self.progress.tokens / max(self.progress.seconds, 1e-9)
                told = f"loss {row['loss']:.3f}, {rate:.0f} tokens/s"
                bar.update(task, completed=self.progress.step, description=told)
        return self._finish()

    def step(self) -> dict[str, float | None]:
        """One step of the optimizer on one window of samples; what is logged about it.

        The loss is the sum over all supervised tokens of the window, divided by their number: a
        mean of means would weigh short answers more.

        Raises:
            Diverged: the loss or the gradient is no finite number.
        """
        at, window = self.progress, self._window(self.progress.step)
        learned = sum(sample.supervised for sample in window)
        loss = self._backward(window, learned)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip).item()
        if not math.isfinite(loss + norm):
            raise Diverged(
                f"diverged at step {at.step + 1}: loss {loss}, norm of the gradient {norm}; "
                f"the learning rate {self.settings.lr} is too high"
            )
        row = {"lr": self.optimizer.param_groups[0]["lr"], "momentum": self.optimizer.momentum}
        row["update_rms"] = self._move()
        at.step += 1
        at.tokens += sum(len(sample.ids) for sample in window)
        at.learned += learned
        told = {"step": at.step, "loss": loss, "norm": norm, **row}
        return {**told, "delta": delta_norm(self.model), "tokens": at.tokens, "learned": at.learned}

    def _backward(self, window: Sequence[Sample], learned: int) -> float:
        """Gradients of the window's loss, and the loss, of all workers' rows."""
        self.model.train()
        total = 0.0
        for place in range(self.workers.rank, len(window), self.workers.count):
            torch.manual_seed(self._dropout_seed(place))
            logits, wanted = self._logits(window[place])
            loss = F.cross_entropy(logits, wanted, reduction="sum") / learned
            loss.backward()
            total += loss.item()
        return self.workers.add(self.trained, [total])[0]

    def _dropout_seed(self, place: int) -> int:
        """What decides a row's dropout: the run's seed, the step and the place in its window.

        So it is the same however many processes there are, and needs no state when a run goes on.
        """
        told = f"{self.settings.seed}/{self.progress.step}/{place}"
        return int.from_bytes(hashlib.sha256(told.encode("ascii")).digest()[:7])

    def _move(self) -> float:
        """Step optimizer and schedule; the root mean square of how far each weight went."""
        before = [p.detach().clone() for p in self.trained]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        pairs = zip(self.trained, before, strict=True)
        moved = sum((p.detach() - old).square().sum().item() for p, old in pairs)
        return math.sqrt(moved / sum(p.numel() for p in self.trained))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss by token on the validation samples, and the share of replies that greed gets right.

        A reply is right when each of its tokens is the likeliest one.
        """
        self.model.eval()
        found = []
        for place in range(self.workers.rank, len(self.held), self.workers.count):
            logits, wanted = self._logits(self.held[place])
            lengths = [end - begin for begin, end in self.held[place].targets]
            hits = (logits.argmax(-1) == wanted).split(lengths)
            loss = F.cross_entropy(logits, wanted, reduction="sum").item()
            found.append((place, loss, sum(bool(hit.all()) for hit in hits), len(hits)))
        rows = sorted(row for rows in self.workers.gather(found) for row in rows)
        tokens = sum(sample.supervised for sample in self.held)
        return {
            "loss": sum(row[1] for row in rows) / max(tokens, 1),
            "right": sum(row[2] for row in rows) / max(sum(row[3] for row in rows), 1),
            "tokens": tokens,
        }

    def save(self) -> None:
        """Write all that the run needs to go on, to a temporary name that is then renamed."""
        self._agree("holds another adapter: these machines compute different sums")
        if not self.workers.is_first:
            return
        state = {
            "facts": self.facts,
            "adapter": adapter_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": asdict(self.progress),
        }
        write_whole(self.out / CHECKPOINT, partial(torch.save, state))

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            if self.workers.is_first:
                (self.out / LOG).unlink(missing_ok=True)
            return
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["facts"] != self.facts:
            raise SftError(
                f"{self.out} holds another run, with {_difference(state['facts'], self.facts)}: "
                "choose another --out, or delete it"
            )
        load_adapter_state(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**state["progress"])
        if self.workers.is_first:
            cut_log(self.out / LOG, self.progress.step)

    def _agree(self, otherwise: str) -> None:
        """Raise `SftError` where a worker is not at the step, or has not the adapter, of all."""
        told = (self.progress.step, sha256_of(adapter_state(self.model)), self.facts)
        for rank, theirs in enumerate(self.workers.gather(told)):
            if theirs != told:
                raise SftError(f"process {rank} (step {theirs[0]}, here {told[0]}) {otherwise}")

    def _optimizer(self) -> MuonAdamW:
        settings = self.settings
        if settings.optimizer == "muon":
            try:
                return MuonAdamW.from_model(
                    self.model,
                    muon_lr=settings.lr,
                    adam_lr=LEARNING_RATES["adamw"],
                    total_steps=self.steps,
                    weight_decay=settings.weight_decay,
                    scale=settings.scale,
                    backend=settings.backend,
                )
            except ValueError as error:  # a rank that the backend does not take
                raise SftError(str(error)) from error
        return MuonAdamW(
            [{"params": self.trained}], lr=settings.lr, weight_decay=settings.weight_decay
        )

    def _factor(self, step: int) -> float:
        """What the peak learning rate is multiplied by at a step, from 0."""
        rising = max(1, round(self.settings.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        return 0.5 * (1 + math.cos(math.pi * done))

    def _order(self) -> list[int]:
        """Which sample comes when: one shuffled pass after the other, until all steps are full."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        wanted, order = self.steps * self.settings.accumulation, list[int]()
        while len(order) < wanted:
            order += torch.randperm(len(self.train), generator=generator).tolist()
        return order[:wanted]

    def _window(self, step: int) -> list[Sample]:
        size = self.settings.accumulation
        return [self.train[i] for i in self.order[step * size : (step + 1) * size]]

    def _logits(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """(targets, vocabulary) logits in float32, and (targets,) ids.

        Only what predicts a target goes through the head: 2,048 tokens of a vocabulary of 151,936
        would be 1.2 GB.
        """
        ids = torch.tensor([sample.ids], device=self.device)
        learned = [i for begin, end in sample.targets for i in range(begin, end)]
        where = torch.tensor(learned, device=self.device)
        logits = self.model(input_ids=ids, logits_to_keep=where - 1).logits[0].float()
        return logits, ids[0, where]

    def _evaluate(self) -> None:
        if self.held:
            row = {"step": self.progress.step, **self.evaluate()}
            self.progress.evaluations.append(row)
            self._log({"validation": row})

    def _log(self, row: dict[str, Any]) -> None:
        if not self.workers.is_first:
            return
        with (self.out / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def _finish(self) -> dict[str, Any]:
        """Write the adapter as PEFT writes one, and the result last: it says that all is there."""
        at = self.progress
        result = {
            **self.facts,
            "steps": self.steps,
            "train_samples": len(self.train),
            "validation_samples": len(self.held),
            "final_adapter": sha256_of(adapter_state(self.model)),
            "delta": delta_norm(self.model),
            "momentum": self.optimizer.momentum,
            "tokens": at.tokens,
            "learned": at.learned,
            "seconds": round(at.seconds, 2),
            "evaluations": at.evaluations,
        }
        if self.workers.is_first:
            self._write(result)
        return result

    def _write(self, result: dict[str, Any]) -> None:
        unfinished = self.out / f"{ADAPTER}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        self.model.save_pretrained(unfinished)
        shutil.rmtree(self.out / ADAPTER, ignore_errors=True)
        unfinished.replace(self.out / ADAPTER)
        write_text(self.out / RESULT, json.dumps(result, indent=2) + "\n")


def split(rows: Sequence[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """Samples to train on, and those of `share` of the documents; the same for every seed."""
    documents = sorted({sample.document for sample in rows})
    held = set(documents[: round(share * len(documents))])
    return [s for s in rows if s.document not in held], [s for s in rows if s.document in held]


def _refuse_uneven(accumulation: int, count: int) -> None:
    if accumulation % count:
        fits = -(-accumulation // count) * count
        raise SftError(
            f"--accumulation {accumulation} does not divide among {count} processes: give "
            f"--accumulation {fits}, or start as many processes as divide it"
        )


def _checkpoint_activations(base: PreTrainedModel) -> None:
    old, new = "gradient_checkpointing_enable", "activation_checkpointing_enable"
    enable = getattr(base, new if hasattr(base, new) else old)  # renamed in transformers 5
    enable({"use_reentrant": False})


def _refuse_other_tokens(rows: Sequence[Sample], vocabulary: int) -> None:
    largest = max(max(sample.ids) for sample in rows)
    if largest >= vocabulary:
        raise SftError(
            f"the samples have the token {largest}, the model has {vocabulary}: they were rendered "
            "for another model; build them with --tokenizer FOLDER of this one"
        )


def _hash_of(rows: Sequence[Sample]) -> str:
    told = [[sample.ids, sample.targets] for sample in rows]
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()


def hash_of_files(folder: Path) -> str:
    """Hash of the model's config and weights."""
    found = hashlib.sha256()
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def facts_of(out: Path) -> dict[str, Any]:
    """`Trainer.facts` of the run whose checkpoint is in `out`; empty where there is none."""
    path = out / CHECKPOINT
    if not path.exists():
        return {}
    return dict(torch.load(path, weights_only=True, map_location="cpu")["facts"])


def _difference(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """The first fact in which a checkpoint is another run than this one."""
    flat = [{**facts["settings"], **facts, "settings": None} for facts in (theirs, mine)]
    name = next(name for name in flat[1] if flat[0].get(name) != flat[1][name])
    return f"{name} {flat[0].get(name)} instead of {flat[1][name]}"


def _bar(*, shown: bool) -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not shown)

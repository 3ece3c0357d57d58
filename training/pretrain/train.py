"""Pre-training: a curriculum over the task itself, advanced on whole-answer accuracy.

Muon (Jordan et al. 2024, `torch.optim.Muon`) for the hidden matrices, AdamW for embeddings and
norms. The learning rate is constant and falls linearly over the last 45 % of the tokens (warm-up,
stable, decay), so that a run can be stopped early: resume it with a smaller ``--tokens``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, Qwen3Config, Qwen3ForCausalLM

from rlm.bench.tasks.stream import Stream
from training.pretrain.batches import Batch, Row, collate, demo_row, page_row, recall_row, sub_row
from training.pretrain.demos import Demo
from training.pretrain.pages import Level
from training.pretrain.tokenizer import END_OF_TEXT, VOCABULARY, Chat


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum.

    Attributes:
        level: how hard pages are.
        chars: lengths of pages, drawn from evenly; about four characters make a token.
        tokens: tokens of each kind in one optimizer step, by kind.
        gate: the kind whose whole-answer accuracy opens the next stage, and how high it must be.
        most: tokens after which the next stage opens anyway.
    """

    level: Level
    chars: Sequence[int]
    tokens: Mapping[str, int]
    gate: tuple[str, float]
    most: float


_EASY = Level(word_values=0.4, absent=0.05, value_first=0.0, quotes=0.2)
_FIRST = {"recall": 3000, "page": 2000, "demo": 1800}
_LATER = {"recall": 1000, "page": 3000, "sub": 1000, "demo": 2500}
STAGES: tuple[Stage, ...] = (
    Stage(replace(_EASY, pool=200), (320, 480), _FIRST, ("recall", 0.85), 3.0e6),
    Stage(replace(_EASY, pool=1000), (320, 480), _FIRST, ("recall", 0.85), 3.0e6),
    Stage(_EASY, (320, 480, 640), _FIRST, ("recall", 0.85), 3.0e6),
    Stage(replace(_EASY, word_values=0.2), (320, 480, 640, 1000), _LATER, ("page", 0.80), 2.5e6),
    Stage(Level(), (320, 640, 1200, 2000), _LATER, ("page", 0.90), 2.5e6),
    Stage(Level(), (320, 1000, 2000, 4000), _LATER, ("page", 0.94), 2.5e6),
    Stage(Level(), (320, 1000, 2000, 4000, 8000), _LATER, ("page", 2.0), 1e12),
)
ACCURACY_MEMORY = 0.97
"""How much of the running accuracy is kept at each step."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a run."""

    tokens: float = 20e6
    seed: int = 1
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warmup: int = 30
    decay: float = 0.45
    clip: float = 1.0
    minutes_between_checkpoints: float = 3.0


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint."""

    step: int = 0
    tokens: int = 0
    stage: int = 0
    stage_tokens: int = 0
    seconds: float = 0.0
    accuracy: dict[str, float] = field(default_factory=dict)


def config() -> Qwen3Config:
    """The embedded model's shape: 3.4 M parameters, window 4,096."""
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=32,
        intermediate_size=512,
        max_position_embeddings=4096,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        attn_implementation="short",
    )


def short_attention(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention on (batch, heads, tokens, head) without a mask.

    On short rows plain matrix products train faster on a CPU core than torch's fused kernel, whose
    backward pass is slow there (by 36 % at 96 tokens, 21 % at 256, not at 512).
    """
    tokens = query.shape[2]
    if tokens > 320:
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    else:
        future = torch.full((tokens, tokens), -1e9, dtype=query.dtype).triu(1)
        scores = (query * scaling) @ key.transpose(-1, -2) + future
        mixed = torch.softmax(scores, dim=-1, dtype=query.dtype) @ value
    return mixed.transpose(1, 2).contiguous(), None


def new_model(seed: int) -> Qwen3ForCausalLM:
    """A freshly initialised model."""
    AttentionInterface.register("short", short_attention)
    AttentionMaskInterface.register("short", lambda *_, **__: None)
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(config())


class Trainer:
    """One run in one folder: ``checkpoint.pt`` and ``log.jsonl``; resumes where it stopped."""

    def __init__(
        self, folder: Path, chat: Chat, demos: Callable[[], Sequence[Demo]], settings: Settings
    ) -> None:
        self.folder, self.chat, self.settings = folder, chat, settings
        self._read_demos = demos
        self.demos = demos()
        self.pad = chat.tokenizer.token_to_id(END_OF_TEXT)
        self.model = new_model(settings.seed)
        hidden = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        self.rest = [p for n, p in self.model.named_parameters() if p.ndim != 2 or "embed" in n]
        self.muon = torch.optim.Muon(
            hidden, lr=settings.muon_lr, momentum=0.95, weight_decay=0.0, adjust_lr_fn="original"
        )
        self.adam = torch.optim.AdamW(
            self.rest, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.progress = Progress()
        self._resume()

    def run(self) -> None:
        """Train until the tokens of the settings are spent."""
        before = self.progress.seconds
        started = saved = time.monotonic()
        while self.progress.tokens < self.settings.tokens:
            row = self.step()
            self.progress.seconds = before + time.monotonic() - started
            if self.progress.step % 10 == 0:
                self._log(row)
            if time.monotonic() - saved > 60 * self.settings.minutes_between_checkpoints:
                self.save()
                saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the checkpoint to a temporary name, then rename it."""
        state = {
            "model": self.model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "progress": asdict(self.progress),
            "settings": asdict(self.settings),
        }
        partial = self.folder / "checkpoint.part"
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.progress = Progress(**state["progress"])
        print(f"resumed at step {self.progress.step}, stage {self.progress.stage}", flush=True)

    def step(self) -> dict[str, float]:
        """One optimizer step over a micro-batch of each kind; returns what is logged."""
        batches = self._batches()
        supervised = sum(len(batch.rows) for batch in batches)
        self._set_learning_rates()
        row: dict[str, float] = {}
        for batch in batches:
            loss, right = self._forward(batch)
            (loss / supervised).backward()
            row[f"{batch.kind}_loss"] = loss.item() / len(batch.rows)
            self._remember(batch, right)
        row["norm"] = torch.nn.utils.clip_grad_norm_(self.rest, self.settings.clip).item()
        for optimizer in (self.muon, self.adam):
            optimizer.step()
            optimizer.zero_grad()
        self._advance(sum(batch.tokens for batch in batches))
        return row

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed loss, and for each target whether the greedy token is right."""
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(batch.ids).last_hidden_state
            logits = self.model.lm_head(hidden[batch.rows, batch.positions - 1]).float()
        wanted = batch.ids[batch.rows, batch.positions]
        return F.cross_entropy(logits, wanted, reduction="sum"), logits.argmax(-1) == wanted

    def _batches(self) -> list[Batch]:
        stage, stream = STAGES[self.progress.stage], Stream(self.settings.seed, self.progress.step)
        chars = stream.choice(stage.chars)
        rows = {
            "recall": lambda: recall_row(stream, self.chat, stage.level),
            "page": lambda: page_row(stream, self.chat, stage.level, chars),
            "sub": lambda: sub_row(stream, self.chat, stage.level, stream.between(120, 700)),
            "demo": lambda: demo_row(stream.choice(self.demos), self.chat),
        }
        return [
            collate(kind, self._fill(rows[kind], tokens), self.pad)
            for kind, tokens in stage.tokens.items()
        ]

    @staticmethod
    def _fill(make: Callable[[], Row], tokens: int) -> list[Row]:
        """Rows until about `tokens` are there; at least one."""
        rows = [make()]
        while sum(len(ids) for ids, _ in rows) + len(rows[-1][0]) / 2 < tokens:
            rows.append(make())
        return rows

    def _set_learning_rates(self) -> None:
        at, settings = self.progress, self.settings
        left = 1 - at.tokens / settings.tokens
        factor = min(1.0, (at.step + 1) / settings.warmup, left / settings.decay)
        self.muon.param_groups[0]["lr"] = settings.muon_lr * factor
        self.adam.param_groups[0]["lr"] = settings.adam_lr * factor

    def _remember(self, batch: Batch, right: Tensor) -> None:
        """Fold the share of answers with every token right into the running accuracy."""
        wrong = torch.zeros(int(batch.answers[-1]) + 1).index_add_(
            0, batch.answers, (~right).float()
        )
        share = (wrong == 0).float().mean().item()
        old = self.progress.accuracy.get(batch.kind, 0.0)
        self.progress.accuracy[batch.kind] = ACCURACY_MEMORY * old + (1 - ACCURACY_MEMORY) * share

    def _advance(self, tokens: int) -> None:
        at = self.progress
        at.step += 1
        at.tokens += tokens
        at.stage_tokens += tokens
        stage = STAGES[at.stage]
        kind, wanted = stage.gate
        if at.accuracy[kind] >= wanted or at.stage_tokens >= stage.most:
            at.stage, at.stage_tokens = at.stage + 1, 0
            at.accuracy[kind] *= 0.9
            self.demos = self._read_demos()
            print(f"stage {at.stage} from step {at.step}", flush=True)

    def _log(self, row: dict[str, float]) -> None:
        line = {**asdict(self.progress), **{k: round(v, 4) for k, v in row.items()}}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        at = self.progress
        shown = " ".join(f"{kind} {value:.2f}" for kind, value in at.accuracy.items())
        losses = " ".join(f"{k} {v:.3f}" for k, v in row.items() if k.endswith("loss"))
        print(
            f"step {at.step} stage {at.stage} {at.tokens / 1e6:.2f}M tokens "
            f"{at.tokens / max(at.seconds, 1):.0f}/s right: {shown} | {losses}",
            flush=True,
        )


def one_thread() -> None:
    """Two contended threads are many times slower than one; say otherwise with OMP_NUM_THREADS."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

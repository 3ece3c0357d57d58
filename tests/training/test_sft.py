"""The training loop: real NF4, real LoRA, on a model of a few thousand weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.training.tiny import VOCABULARY, tiny_file, tiny_folder, tiny_samples
from training import sft
from training.lora import adapter_state, open_base, sha256_of
from training.samples import Sample
from training.trainer import CHECKPOINT, LOG, RESULT, Settings, SftError, Trainer, split

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("samples") / "samples.jsonl.gz")


def settings(folder: Path, **options: Any) -> Settings:
    """A short run without NF4, which is slow on so small a model."""
    own = {"epochs": 1, "rank": 4, "lr": 0.01, "quantization": "none"}
    return Settings(str(folder), **{**own, **options})


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The log without its clock."""
    lines = (out / LOG).read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def arguments(folder: Path, file: Path, out: Path, *more: str) -> list[str]:
    return ["--model", str(folder), "--samples", str(file), "--out", str(out), *more]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_arm_learns_and_leaves_the_base_alone(
    optimizer: str, folder: Path, tmp_path: Path
) -> None:
    """QLoRA for real: the base is in NF4."""
    chosen = settings(folder, optimizer=optimizer, quantization="nf4", epochs=2)
    trainer = Trainer(tmp_path / "run", chosen, tiny_samples())
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    result = trainer.run()
    first, last = result["evaluations"][0]["loss"], result["evaluations"][-1]["loss"]
    assert last < first - 0.1
    assert result["final_adapter"] != result["initial_adapter"]
    assert all(
        torch.equal(p, frozen[n]) for n, p in trainer.model.named_parameters() if n in frozen
    )
    assert result["delta"] > 0
    assert (result["momentum"] is None) == (optimizer == "adamw")


def test_both_arms_begin_alike_and_see_the_same(folder: Path, tmp_path: Path) -> None:
    same = ("initial_adapter", "samples", "validation", "order", "base")
    arms = [
        Trainer(
            tmp_path / f"{optimizer}{seed}",
            settings(folder, optimizer=optimizer, seed=seed),
            tiny_samples(),
        ).facts
        for optimizer, seed in (("adamw", 1), ("muon", 1), ("muon", 2))
    ]
    assert all(arms[0][name] == arms[1][name] for name in same)
    differing = {name for name in same if arms[1][name] != arms[2][name]}
    assert differing == {"initial_adapter", "order"}


def test_the_loss_is_by_token_over_the_whole_window(folder: Path, tmp_path: Path) -> None:
    """Against all logits of the same model, and not the mean of the samples' means."""
    chosen = settings(folder, dropout=0.0)
    trainer = Trainer(tmp_path / "run", chosen, tiny_samples())
    window = trainer._window(0)
    summed, means, count = 0.0, [], 0
    for sample in window:
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([sample.ids])).logits[0]
        where = [i for a, b in sample.targets for i in range(a, b)]
        wanted = torch.tensor([sample.ids[i] for i in where])
        each = F.cross_entropy(logits[[i - 1 for i in where]], wanted, reduction="none")
        summed, count = summed + each.sum().item(), count + len(where)
        means.append(each.mean().item())
    loss = trainer.step()["loss"]
    assert loss == pytest.approx(summed / count, rel=1e-4)
    assert abs(sum(means) / len(means) - summed / count) > 1e-3 * summed / count


def test_a_reply_is_right_when_all_its_tokens_are(folder: Path, tmp_path: Path) -> None:
    """Targets that are the model's own greedy tokens are right; with one changed they are not."""
    trainer = Trainer(tmp_path / "run", settings(folder, validation=0.5), tiny_samples())
    trainer.model.eval()
    ids = list(tiny_samples(1)[0].ids[:6])
    while len(ids) < 12:
        with torch.no_grad():
            ids.append(int(trainer.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    sample = Sample("0" * 64, "d", "niah", tuple(ids), ((6, 9), (9, 12)), (1, 2))
    trainer.held = [sample]
    assert trainer.evaluate()["right"] == 1
    other = (*ids[:11], (ids[11] + 1) % VOCABULARY)
    trainer.held = [replace(sample, ids=other)]
    assert trainer.evaluate()["right"] == 0.5


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
def test_the_written_adapter_is_the_trained_one(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    trainer = Trainer(tmp_path / "run", settings(folder, quantization="nf4"), tiny_samples())
    trainer.run()
    loaded = PeftModel.from_pretrained(open_base(folder, "nf4"), tmp_path / "run" / "adapter")
    ids = torch.tensor([tiny_samples(1)[0].ids])
    loaded.eval()
    trainer.model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, trainer.model(input_ids=ids).logits)


def test_checkpointed_activations_give_the_same_run(folder: Path, tmp_path: Path) -> None:
    """With dropout: the backward pass draws what the forward pass drew."""
    ends = [
        Trainer(
            tmp_path / str(on), settings(folder, checkpointing=on, dropout=0.2), tiny_samples()
        ).run()["final_adapter"]
        for on in (True, False)
    ]
    assert ends[0] == ends[1]


class Interrupted(Exception):
    pass


class Short(Trainer):
    """Breaks off after five steps."""

    def step(self) -> dict[str, float | None]:
        if self.progress.step == 5:
            raise Interrupted
        return super().step()


@pytest.mark.parametrize(("optimizer", "quantization"), [("adamw", "none"), ("muon", "nf4")])
def test_a_resumed_run_is_the_same_bit_for_bit(
    optimizer: str, quantization: str, folder: Path, tmp_path: Path
) -> None:
    """Broken off two steps after a checkpoint; these are taken again."""
    chosen = settings(
        folder, optimizer=optimizer, quantization=quantization, dropout=0.2, save_every=3
    )
    straight = Trainer(tmp_path / "straight", chosen, tiny_samples()).run()
    with pytest.raises(Interrupted):
        Short(tmp_path / "stopped", chosen, tiny_samples()).run()
    assert [row["step"] for row in rows_of(tmp_path / "stopped") if "step" in row][-1] == 5
    torch.manual_seed(99)
    again = Trainer(tmp_path / "stopped", chosen, tiny_samples())
    assert again.progress.step == 3
    assert {**again.run(), "seconds": 0} == {**straight, "seconds": 0}
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "straight")


def test_a_killed_run_ends_as_if_nothing_had_happened(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle, then the same line again: the same adapter, the same log."""
    more = ("--optimizer", "muon", "--epochs", "4", "--save-every", "4", "--rank", "4")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "training.sft", *arguments(folder, file, out, *more)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        log, deadline = out / LOG, time.monotonic() + 300
        while not (log.exists() and log.read_text().count('"norm"') >= 6):
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
    assert (out / CHECKPOINT).exists()
    assert not (out / RESULT).exists()
    sft.main(arguments(folder, file, out, *more))
    sft.main(arguments(folder, file, tmp_path / "straight", *more))
    ends = [json.loads((o / RESULT).read_text()) for o in (out, tmp_path / "straight")]
    assert {**ends[0], "seconds": 0} == {**ends[1], "seconds": 0}
    assert rows_of(out) == rows_of(tmp_path / "straight")
    written = [(o / "adapter" / "adapter_model.safetensors") for o in (out, tmp_path / "straight")]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_a_finished_run_is_told_again_not_run(folder: Path, tmp_path: Path) -> None:
    first = Trainer(tmp_path / "run", settings(folder, epochs=1), tiny_samples())
    result = first.run()
    again = Trainer(tmp_path / "run", settings(folder, epochs=1), tiny_samples())
    assert again.is_done
    assert again.run() == json.loads(json.dumps(result))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lr": 0.02}, "lr 0.01 instead of 0.02"),
        ({"seed": 5}, "seed 0 instead of 5"),
        ({"optimizer": "muon"}, "optimizer adamw instead of muon"),
    ],
)
def test_another_run_in_the_folder_is_refused(
    options: dict[str, Any], told: str, folder: Path, tmp_path: Path
) -> None:
    Trainer(tmp_path / "run", settings(folder, epochs=1), tiny_samples()).save()
    with pytest.raises(SftError, match=rf"holds another run, with {told}: choose another --out"):
        Trainer(tmp_path / "run", settings(folder, epochs=1, **options), tiny_samples())
    more = tiny_samples(26)
    with pytest.raises(SftError, match="holds another run, with "):
        Trainer(tmp_path / "run", settings(folder, epochs=1), more)
    Trainer(tmp_path / "run", settings(folder, epochs=1, save_every=9), tiny_samples())


def test_a_divergence_is_told_with_its_step(folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "run", settings(folder, lr=1e30), tiny_samples())
    with pytest.raises(
        SftError, match=r"diverged at step \d+: .* learning rate 1e\+30 is too high"
    ):
        trainer.run()


def test_validating_more_often_changes_no_weight(folder: Path, tmp_path: Path) -> None:
    ends = [
        Trainer(
            tmp_path / str(every),
            settings(folder, validate_every=every, dropout=0.2),
            tiny_samples(),
        ).run()
        for every in (0, 2)
    ]
    assert ends[0]["final_adapter"] == ends[1]["final_adapter"]
    assert [[e["step"] for e in end["evaluations"]] for end in ends] == [[0, 6], [0, 2, 4, 6]]


def test_the_learning_rate_rises_and_falls_to_nothing(folder: Path, tmp_path: Path) -> None:
    Trainer(tmp_path / "run", settings(folder, epochs=2, warmup=0.25), tiny_samples()).run()
    rates = [row["lr"] for row in rows_of(tmp_path / "run") if "lr" in row]
    top = rates.index(max(rates))
    assert max(rates) == 0.01
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < top < len(rates) / 2
    assert rates[-1] < 0.002


@property_settings(max_examples=30)
@given(count=st.integers(1, 40), share=st.floats(0, 0.99))
def test_no_document_is_on_both_sides(count: int, share: float) -> None:
    made = tiny_samples(count)
    train, held = split(made, share)
    assert not {s.document for s in train} & {s.document for s in held}
    assert sorted(s.cell for s in train + held) == [s.cell for s in made]
    assert len({s.document for s in held}) == round(share * len({s.document for s in made}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--model", "absent"), "there is no Hugging Face folder absent"),
        (("--samples", "absent.gz"), "there is no file absent.gz: python -m training.samples"),
        (("--lr", "0"), "--lr must be above 0, not 0.0"),
        (("--lr", "inf"), "--lr must be above 0, not inf"),
        (("--validate-every", "-1"), "--validate-every must be 0 or above, not -1"),
        (("--weight-decay", "-1"), "--weight-decay must be 0 or above, not -1.0"),
        (("--threads", "0"), "--threads must be 1 or above, not 0"),
        (("--rank", "-1"), "--rank must be above 0, not -1"),
        (("--dropout", "1"), "--dropout must be from 0 to below 1, not 1.0"),
        (("--device", "cuda:99"), "--device cuda:99: this torch sees "),
        (("--device", "gpu"), "--device gpu is no device to train on: give cpu, or a card as cuda"),
        (("--see", "3"), "unrecognized arguments: --see 3"),
        (("--memory", "0.0001"), "this run takes 0.00 GiB (weights"),
    ],
)
def test_what_cannot_run_says_why(
    change: tuple[str, str],
    message: str,
    folder: Path,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        sft.main([*arguments(folder, file, tmp_path / "run"), *change])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_rank_that_the_backend_does_not_take_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SftError, match=r"a side of up to 64, .* use the backend ns"):
        Trainer(tmp_path / "run", settings(folder, optimizer="muon", rank=65), tiny_samples())


def test_samples_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    made = tiny_samples()
    odd = replace(made[3], ids=(*made[3].ids[:-1], VOCABULARY))
    with pytest.raises(SftError, match=f"have the token {VOCABULARY}, the model has {VOCABULARY}"):
        Trainer(tmp_path / "run", settings(folder), [*made, odd])


def test_the_command_trains_and_tells(
    folder: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sft.main(arguments(folder, file, tmp_path / "run", "--epochs", "1", "--optimizer", "muon"))
    told = capsys.readouterr().out
    assert "memory: 0.00 GiB (weights" in told
    assert "22 samples, 2 held out, 6 steps, at 0" in told
    assert "validation at step 6: loss " in told
    assert "momentum 0.950" in told
    assert f"adapter: {tmp_path / 'run' / 'adapter'}" in told


def test_a_hash_of_tensors_sees_each_bit(folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "run", settings(folder), tiny_samples())
    state = adapter_state(trainer.model)
    before = sha256_of(state)
    next(iter(state.values()))[0, 0] *= 1 + 1e-6
    assert sha256_of(state) != before

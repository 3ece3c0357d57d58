"""What ships as ``embedded/sft`` is what a comparison found best, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.compare import ship
from training.pretrain.ship import MODELS
from training.restore import hf_folder

RESULT = dict.fromkeys(ship.RESULTS, 1)


def facts(name: str) -> dict[str, Any]:
    return dict(json.loads((MODELS / f"{name}.json").read_text(encoding="utf-8")))


def write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a comparison in which Muon's second seed is best, merged for the benchmark."""
    folder = tmp_path / "compared"
    runs = [("adamw-1", 0.3, ""), ("muon-1", 0.1, "at step 2"), ("muon-2", 0.2, "")]
    seeds: dict[str, list[dict[str, Any]]] = {"adamw": [], "muon": []}
    for name, loss, diverged in runs:
        told = {"name": name, "loss": loss, "diverged": diverged}
        seeds[name.partition("-")[0]].append(told)
    base = {"name": "base", "spec": "embedded/base", "digest": "sha256:1"}
    write(folder / "report.json", {"seeds": seeds, "models": [base]})
    merged = hf_folder(MODELS / "embedded-base.gguf", folder / "merged" / "muon-2")
    write(merged / "merge.json", {"onto": "dequantised", "difference": 1e-5})
    settings = {"model": "/home/me/base", "optimizer": "muon", "lr": 0.005}
    write(folder / "seeds" / "muon-2" / "result.json", {**RESULT, "settings": settings})
    return folder


def test_the_lowest_loss_that_did_not_diverge_ships(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "embedded-base.gguf"  # the name is in the file
    told = ship.ship(out, target)
    assert target.read_bytes() == (MODELS / "embedded-base.gguf").read_bytes()
    assert told["sha256"] == facts("embedded-base")["sha256"]
    assert told["settings"] == {"optimizer": "muon", "lr": 0.005}
    assert json.loads(target.with_suffix(".json").read_text()) == told


def test_what_ships_was_made_of_the_base_that_ships() -> None:
    """Guards a new base beside an old ``embedded/sft``."""
    base = facts("embedded-base")
    assert facts("embedded-sft")["base"]["digest"] == f"sha256:{base['sha256']}"
    assert facts("embedded-sft")["protocol"] == base["protocol"]


@pytest.mark.parametrize("spoil", ["report.json", "merged/muon-2/merge.json"])
def test_no_comparison_that_has_ended(
    out: Path, spoil: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / spoil).unlink()
    monkeypatch.setattr("sys.argv", ["ship", str(out), "--to", str(out / "x.gguf")])
    with pytest.raises(SystemExit, match="2"):
        ship.main()
    assert f"{out} is no comparison that has ended" in capsys.readouterr().err
    assert not list(out.glob("x.*"))

"""``python -m training.compare.ship OUT``: the best adapter of a comparison as ``embedded/sft``.

It takes the run of the lowest validation loss of both arms, as merged for the benchmark, and writes
``rlm/models/nano/embedded-sft.gguf`` and the JSON beside it: what it was made with, and its hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlm import prompts
from training.export import export_gguf
from training.pretrain.ship import MODELS

TARGET = MODELS / "embedded-sft.gguf"
RESULTS = ("steps", "tokens", "seconds", "samples", "order", "initial_adapter", "final_adapter")


def main() -> None:
    """Read the arguments and ship."""
    parser = argparse.ArgumentParser(prog="python -m training.compare.ship", description=__doc__)
    parser.add_argument("out", type=Path, help="--out of training.compare, which has ended")
    parser.add_argument("--to", type=Path, default=TARGET, help="file to write")
    args = parser.parse_args()
    try:
        print(json.dumps(ship(args.out, args.to), indent=2))
    except (FileNotFoundError, KeyError, ValueError) as error:
        parser.error(f"{args.out} is no comparison that has ended, benchmark and all: {error}")


def ship(out: Path, target: Path) -> dict[str, Any]:
    """Export the best run of the comparison `out` to `target`; what the JSON beside it says.

    Args:
        out: the folder of a comparison whose benchmark was asked of an embedded model.
        target: the GGUF to write.

    Raises:
        FileNotFoundError: it has no report, or the best run was not merged.
        KeyError: its report is another's.
        ValueError: every run diverged, or it is not about an embedded model.
    """
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    runs = [run for arm in report["seeds"].values() for run in arm if not run["diverged"]]
    best = min(runs, key=lambda run: float(run["loss"]))["name"]
    base = next(model for model in report["models"] if model["name"] == "base")
    if not base["spec"].startswith("embedded"):
        raise ValueError(f"its base is {base['spec']}, not an embedded model")
    merged = out / "merged" / best
    result, written = _json(out / "seeds" / best / "result.json"), _json(merged / "merge.json")
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(merged).backend_tokenizer
    export_gguf(target, model.state_dict(), model.config, tokenizer, name=target.stem)
    settings = {key: value for key, value in result["settings"].items() if key != "model"}
    facts: dict[str, Any] = {
        "file": target.name,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "protocol": {"version": prompts.VERSION, "sha256": prompts.version_sha256()},
        "base": {"spec": base["spec"], "digest": base["digest"]},
        "settings": settings,
        "result": {key: result[key] for key in RESULTS},
        "merged": {key: written[key] for key in ("onto", "difference")},
        "torch": torch.__version__,
    }
    target.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()

"""``python -m training.pretrain.ship``: checkpoints as GGUFs in ``rlm/models/nano``.

Beside each GGUF it writes a JSON file: what the model was made with, and its hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from rlm import prompts
from training.export import export_gguf
from training.pretrain.model import config
from training.pretrain.tokenizer import load_tokenizer
from training.pretrain.train import BASE, TASKS, End

HERE = Path(__file__).parent
MODELS = HERE.parent.parent / "rlm" / "models" / "nano"


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and ship."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain.ship", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder of the run")
    parser.add_argument("--to", type=Path, default=MODELS, help="folder to write to")
    args = parser.parse_args(argv)
    trained = [end for end in (TASKS, BASE) if (args.out / end.folder / "checkpoint.pt").exists()]
    if not trained:
        folders = " or ".join(str(args.out / end.folder) for end in (TASKS, BASE))
        parser.error(f"no checkpoint.pt in {folders}; run python -m training.pretrain first")
    for end in trained:
        print(json.dumps(ship(args.out, end, args.to / end.file), indent=2))


def ship(out: Path, end: End, target: Path) -> dict[str, object]:
    """Export what `end` made to `target`; what the JSON beside it says.

    Args:
        out: the folder of the run, with ``tokenizer.json`` and the checkpoint of `end`.
        end: what was learned last.
        target: the GGUF to write.
    """
    state = torch.load(out / end.folder / "checkpoint.pt", weights_only=True)
    tokenizer = load_tokenizer(out / "tokenizer.json")
    export_gguf(target, state["model"], config(), tokenizer, name=target.stem)
    facts: dict[str, object] = {
        "file": target.name,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "protocol": {"version": prompts.VERSION, "sha256": prompts.version_sha256()},
        "parameters": sum(p.numel() for k, p in state["model"].items() if k != "lm_head.weight"),
        "settings": state["settings"],
        "progress": state["progress"],
        "before": state["before"],
        "torch": torch.__version__,
    }
    target.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


if __name__ == "__main__":
    main()

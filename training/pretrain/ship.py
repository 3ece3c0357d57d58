"""``python -m training.pretrain.ship``: checkpoints as GGUFs in ``rlm/models/nano``.

Beside each GGUF it writes a JSON file: what the model was made with, and its hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch

from rlm import prompts
from training.export import export_gguf
from training.pretrain.model import config
from training.pretrain.tokenizer import load_tokenizer
from training.pretrain.train import BASE

HERE = Path(__file__).parent
MODELS = HERE.parent.parent / "rlm" / "models" / "nano"


def main() -> None:
    """Read the arguments and ship."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain.ship", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder of the run")
    parser.add_argument("--to", type=Path, default=MODELS, help="folder to write to")
    args = parser.parse_args()
    runs = ((args.out, "embedded.gguf"), (args.out / BASE.folder, "embedded-base.gguf"))
    trained = [(run, name) for run, name in runs if (run / "checkpoint.pt").exists()]
    if not trained:
        parser.error(
            f"there is no checkpoint.pt in {args.out}; run python -m training.pretrain first"
        )
    for run, name in trained:
        print(json.dumps(ship(run, args.out / "tokenizer.json", args.to / name), indent=2))


def ship(run: Path, tokens: Path, target: Path) -> dict[str, object]:
    """Export the checkpoint of the folder `run` to `target`; what the JSON beside it says.

    Args:
        run: has ``checkpoint.pt``.
        tokens: the tokenizer's file.
        target: the GGUF to write.
    """
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    tokenizer = load_tokenizer(tokens)
    export_gguf(target, state["model"], config(), tokenizer, name=target.stem)
    facts: dict[str, object] = {
        "file": target.name,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "protocol": {"version": prompts.VERSION, "sha256": prompts.version_sha256()},
        "parameters": sum(p.numel() for k, p in state["model"].items() if k != "lm_head.weight"),
        "settings": state["settings"],
        "progress": state["progress"],
        "torch": torch.__version__,
    }
    target.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


if __name__ == "__main__":
    main()

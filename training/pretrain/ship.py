"""``python -m training.pretrain.ship``: a checkpoint as ``rlm/models/nano/embedded.gguf``.

Beside the GGUF it writes ``embedded.json``: what the file was made with, and its hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch

from rlm import prompts
from training.export import export_gguf
from training.pretrain.tokenizer import load_tokenizer
from training.pretrain.train import config

HERE = Path(__file__).parent
MODELS = HERE.parent.parent / "rlm" / "models" / "nano"


def main() -> None:
    """Read the arguments and ship."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain.ship", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder of the run")
    parser.add_argument("--to", type=Path, default=MODELS / "embedded.gguf", help="file to write")
    args = parser.parse_args()
    print(json.dumps(ship(args.out, args.to), indent=2))


def ship(run: Path, target: Path) -> dict[str, object]:
    """Export the checkpoint of the folder `run` to `target`; what the JSON beside it says."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    tokenizer = load_tokenizer(run / "tokenizer.json")
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

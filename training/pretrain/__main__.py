"""``python -m training.pretrain``: make the embedded models, from the word list to the GGUFs.

Everything follows from the seed and the number of workers. Each step is skipped when its file is
there, and goes on where it stopped: demos.jsonl, tokenizer.json, checkpoint.pt for `embedded`; then
the same in the folder base for `embedded/base`, which goes on from there and learns the loop anew
from a teacher that errs on purpose. Delete a file to make it again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from rlm import prompts
from rlm.bench.tasks.stream import Stream
from training.pretrain.demos import NOISY_PAGES, make_demos, read_demos
from training.pretrain.pages import Level, make_page, reply
from training.pretrain.ship import ship
from training.pretrain.tokenizer import train_tokenizer
from training.pretrain.train import BASE, Settings, train, train_other_end
from training.pretrain.workers import run_workers

HERE = Path(__file__).parent


def main() -> None:
    """Read the arguments and run the steps."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="working folder")
    add = parser.add_argument
    add("--tokens", type=float, default=28e6, help="tokens to train on (default: 28e6)")
    add("--demos", type=int, default=6000, help="demonstrations to play (default: 6000)")
    add("--base-tokens", type=float, default=1.5e6, help="tokens of the other end (default: 1.5e6)")
    add("--base-demos", type=int, default=2000, help="demonstrations with errors (default: 2000)")
    add("--seed", type=int, default=1, help="seed of everything (default: 1)")
    add("--workers", type=int, default=2, help="processes of one core each (default: 2)")
    args = parser.parse_args()
    for name in ("tokens", "demos", "base_tokens", "base_demos", "workers"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0, not {getattr(args, name)}")
    base = args.out / BASE
    base.mkdir(parents=True, exist_ok=True)
    demos = args.out / "demos.jsonl"
    make_demos(demos, args.seed, args.demos, workers=args.workers)
    tokenizer = args.out / "tokenizer.json"
    if not tokenizer.exists():
        train_tokenizer(corpus(args.seed, demos)).save(str(tokenizer))
    settings = Settings(tokens=args.tokens, seed=args.seed)
    run_workers(partial(train, args.out, settings), args.workers)
    ship(args.out, tokenizer, args.out / "embedded.gguf")
    noisy = args.seed + 1
    make_demos(base / "demos.jsonl", noisy, args.base_demos, draw=NOISY_PAGES, workers=args.workers)
    run_workers(partial(train_other_end, args.out, args.base_tokens), args.workers)
    ship(base, tokenizer, base / "embedded-base.gguf")
    print(f"ready in {args.out}; python -m training.pretrain.ship puts both in place")


def corpus(seed: int, demos: Path) -> Iterator[str]:
    """What the tokenizer is trained on: pages, questions, and the messages of demonstrations."""
    for number in range(3000):
        page = make_page(Stream("corpus", seed, number), 1500, 5, Level())
        yield page.text
        for fact in page.facts:
            yield f"{fact.question}\n{reply(fact, told=True)}"
    for demo in islice(read_demos(demos), 500):
        yield from (message.content for message in demo.messages[1:])
    yield prompts.system("compact")


if __name__ == "__main__":
    main()

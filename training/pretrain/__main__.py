"""``python -m training.pretrain``: make the embedded model, from the word list to the GGUF.

Everything follows from the seed. Each step is skipped when its file is there: tokenizer.json,
demos.jsonl, checkpoint.pt; delete one to make it again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rlm import prompts
from rlm.bench.tasks.stream import Stream
from training.pretrain.demos import make_demos, read_demos
from training.pretrain.pages import Level, make_page
from training.pretrain.ship import ship
from training.pretrain.tokenizer import Chat, load_tokenizer, train_tokenizer
from training.pretrain.train import Settings, Trainer, one_thread

HERE = Path(__file__).parent


def main() -> None:
    """Read the arguments and run the steps."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="working folder")
    parser.add_argument("--tokens", type=float, default=27e6, help="tokens to train on")
    parser.add_argument("--demos", type=int, default=8500, help="demonstrations to play")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything")
    args = parser.parse_args()
    one_thread()
    args.out.mkdir(parents=True, exist_ok=True)
    demos = args.out / "demos.jsonl"
    make_demos(demos, args.seed, args.demos)
    tokenizer = args.out / "tokenizer.json"
    if not tokenizer.exists():
        train_tokenizer(corpus(args.seed, demos)).save(str(tokenizer))
    chat = Chat(load_tokenizer(tokenizer))
    settings = Settings(tokens=args.tokens, seed=args.seed)
    Trainer(args.out, chat, lambda: list(read_demos(demos)), settings).run()
    ship(args.out, args.out / "embedded.gguf")
    print(f"{args.out}/embedded.gguf is ready; python -m training.pretrain.ship puts it in place")


def corpus(seed: int, demos: Path) -> Iterator[str]:
    """What the tokenizer is trained on: pages, questions, and the messages of demonstrations."""
    for number in range(3000):
        page = make_page(Stream("corpus", seed, number), 1500, 5, Level())
        yield page.text
        yield from (fact.question for fact in page.facts)
    for demo in islice(read_demos(demos), 500):
        yield from (message.content for message in demo.messages[1:])
    yield prompts.system("compact")


if __name__ == "__main__":
    main()

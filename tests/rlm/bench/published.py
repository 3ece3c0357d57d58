"""Small files in the formats of the published sets, made here."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

NUMBER = "7321460"
WORD = "aYooSG8CQg"
POEM = "Tapirs by night,\nsoft in the light."

Row = dict[str, Any]


def niah(number: str = NUMBER, **more: object) -> Row:
    """A row of RULER's niah_single, as an older version writes it."""
    fact = f"One of the special magic numbers for amber-lake is: {number}."
    hay = "The grass is green. The sky is blue. Here we go."
    ask = "What is the special magic number for amber-lake mentioned in the provided text?"
    cue = " The special magic number for amber-lake mentioned in the provided text is"
    text = f"A special magic number is hidden within the following text.\n{hay}\n{fact}\n{hay}\n"
    return {"index": 0, "input": text + ask + cue, "outputs": [number], "length": 90, **more}


def qa() -> Row:
    text = "Document 1:\nQuestion: of old.\nOslo is in Norway.\n\nQuestion: Where is Oslo? Answer:"
    return {"index": 0, "input": text, "outputs": ["Norway", "the kingdom"], "length": 30}


def vt() -> Row:
    """A row of RULER's variable tracking."""
    names = ["VKXQP", "ZRWAB", "QPMNT", "LLSDF", "YTREW"]
    facts = [f"VAR {b} = VAR {a}" for a, b in pairwise(names)]
    text = "\n".join(["Memorize the chain(s).", f"VAR {names[0]} = 12345", *facts])
    ask = "Question: Find all variables that are assigned the value 12345 in the text above."
    return {"index": 0, "input": f"{text}\n{ask}", "outputs": names, "length": 60}


def choice(answer: str = "B", **more: object) -> Row:
    """A row of LongBench v2."""
    return {
        "_id": "66f",
        "domain": "Single-Document QA",
        "difficulty": "easy",
        "length": "short",
        "question": "What is the sky?",
        **{f"choice_{letter}": f"it is {letter.lower()}" for letter in "ABCD"},
        "answer": answer,
        "context": 'The "sky" {is} blue.\n' * 3,
        **more,
    }


def oolong(answer: str, kind: str, **more: object) -> Row:
    """A row of oolong-synth."""
    return {
        "id": 1,
        "context_len": 1024,
        "dataset": "spam",
        "context_window_text": "Date: Jan 05, 2023 || User: 12 || Instance: Win now!\n" * 3,
        "question": "How often? Give your answer in the form 'Answer: number'.",
        "task_group": "counting",
        "answer": answer,
        "answer_type": f"ANSWER_TYPE.{kind}",
        **more,
    }


def real(answer: str) -> Row:
    """A row of oolong-real."""
    text = "Sam: I roll the dice. Twelve!"
    return {"id": 2, "context_window_text": text, "question": "How many?", "answer": answer}


def mrcr(**more: object) -> Row:
    """A row of OpenAI's MRCR."""
    said = [
        ("user", "Write a poem about tapirs"),
        ("assistant", "A first poem."),
        ("user", "Write a poem about tapirs"),
        ("assistant", POEM),
        ("user", f"Prepend {WORD} to the 2nd (1 indexed) poem about tapirs."),
    ]
    return {
        "prompt": json.dumps([{"role": role, "content": text} for role, text in said]),
        "answer": WORD + POEM,
        "random_string_to_prepend": WORD,
        "n_needles": 2,
        "desired_msg_index": 2,
        "total_messages": 5,
        "n_chars": 120,
        **more,
    }


def write(path: Path, *rows: Row) -> Path:
    """Rows as JSON lines, a JSON array or Parquet, by the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path

"""The options of the command line: names, values, helps. What a value means is `rlm.bench.grid`'s.

Nothing here is imported beyond the standard library, so that a pytest without cells stays fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

VALUES: Final = (
    (
        ("model", "SPEC", "parse_model", "embedded"),
        "Model: embedded (default, needs no download), ollama/NAME, openai/NAME@URL, "
        "gguf/PATH[+LORA.gguf], hf/PATH[+ADAPTER]",
    ),
    (
        ("tasks", "A,B", "parse_names", None),
        "Tasks, such as aggregate,trace, or all; default: niah,long_doc_qa, tasks of your own, and "
        "those whose name stands in -k or in a path",
    ),
    (
        ("lengths", "1k,8k", "parse_lengths", None),
        "Lengths of the documents, k = 1,024; default 1k,2k,4k,8k,16k,32k,64k,128k",
    ),
    (
        ("depths", "10,50", "parse_depths", None),
        "Where the evidence stands, in percent; default: the task's own, mostly 10,50,90",
    ),
    (
        ("arch", "A,B", "parse_architectures", None),
        "Architectures; default vanilla,rlm. Controls: repl (no sub-calls), rag (search, then one "
        "call), grep (no model), oracle (the evidence alone), closedbook (no document)",
    ),
    (("samples", "N", "parse_count", None), "Documents for each length and depth; default 3"),
    (
        ("draws", "N", "parse_count", None),
        "Answers to each document; default 1. More than one needs --rlm-temperature",
    ),
    (
        ("temperature", "T", "parse_temperature", 0.0),
        "Of every call; default 0, which is greedy. Above it each draw has a seed of its own",
    ),
    (("seed", "N", "parse_seed", 0), "Seed of the suite: another makes other documents; default 0"),
    (
        ("file", "DATA.jsonl", "parse_file", None),
        "Your own data: each JSON object with context, query and answer becomes a cell, whose "
        "length is its own. One a line, or an array in a .json file, or the rows of a .parquet "
        "file. The other tasks are left out unless --rlm-tasks names them",
    ),
    (
        ("dataset", "NAME", "parse_dataset", None),
        "A published set as cells, one for each row: ruler, longbench-v2, oolong or mrcr; needs "
        "--rlm-data. The other tasks are left out unless --rlm-tasks names them",
    ),
    (
        ("data", "PATH", "parse_folder", None),
        "With --rlm-dataset: a file of its rows (.jsonl, .json, .parquet) or a folder of them",
    ),
    (
        ("num-ctx", "auto|N", "parse_window", None),
        "Window in tokens, a multiple of 256; default auto: 4096 for embedded, else up to 16384 or "
        "what is served",
    ),
    (
        ("concurrency", "N", "parse_concurrency", None),
        "Sub-calls of one llm_query_batched that run at once, 1 to 64; default 1 for embedded, "
        "gguf/, hf/ and ollama/, which answer one after another, else 8",
    ),
    (
        ("max-iterations", "N", "parse_count", 20),
        "Root turns of a loop (rlm, repl) before it is asked for its answer; default 20. A cell of "
        "another number is another cell",
    ),
    (
        ("max-depth", "N", "parse_max_depth", 1),
        "Levels of loops in rlm, 1 to 8; default 1. From 2 on the model's code may open a loop of "
        "its own on a part of the text (rlm_query), in one more sandbox and on the same budget",
    ),
    (
        ("run", "NAME", "parse_run", None),
        "Name of the run under runs/, or a folder. One that exists is continued: a cell that it "
        "holds is shown, not run. Default: the UTC time",
    ),
    (
        ("rerun", "VERDICTS", "parse_rerun", ("error", "crashed")),
        "With --rlm-run, what runs again: all, none, or some of correct,wrong,truncated,timeout,"
        "error,crashed; default error,crashed",
    ),
    (
        ("max-tokens", "N", "parse_tokens", None),
        "Start no cell once this session's cells have used so many tokens, prompts and answers "
        "together (200k is 200,000); the same --rlm-run continues later",
    ),
    (
        ("max-minutes", "M", "parse_minutes", None),
        "Start no cell once this session has run so long; the same --rlm-run continues later",
    ),
    (
        ("record", "DIR", "parse_folder", None),
        "Keep every call of the model in this folder, to be replayed later",
    ),
    (
        ("replay", "DIR", "parse_folder", None),
        "Answer every call from such a folder, without the model: the same options give the same "
        "records (but for their seconds); a request that is not in it is an error that shows the "
        "nearest",
    ),
    (
        ("compare", "RUN", "parse_run", None),
        "Compare with an earlier run, a name under runs/ or a folder, cell by cell, at the end",
    ),
    (
        ("report", "FILE.html", "parse_page", None),
        "At the end write all of the run as one HTML page, as rlm report does; with --rlm-compare "
        "beside the earlier run",
    ),
)
"""Options with a value: name, placeholder, parser in `rlm.bench.grid`, default; help."""

CHOICES: Final = (
    ("length-unit", ("tokens", "chars"), "What lengths count; a token is four characters"),
    ("prompt", ("auto", "full", "compact"), "System prompt; auto is compact for embedded models"),
    (
        "sandbox",
        ("auto", "process", "no-open", "bwrap", "monty", "unconfined"),
        "What confines the model's code (rlm doctor says what this machine has); auto is process "
        "on Linux, else monty",
    ),
    (
        "overflow",
        ("refuse", "head", "middle", "tail"),
        "What becomes of a document that does not fit vanilla's prompt. refuse: no call, the cell "
        "is truncated. The others cut it on purpose, and say so in record and table: head keeps "
        "the head and cuts off the rest, tail keeps the tail, middle cuts out the middle and keeps "
        "both ends",
    ),
    (
        "progress",
        ("auto", "bar", "lines", "off"),
        "How a long session shows that it goes on: cells done, cells a minute, when it will end, "
        "verdicts so far. bar: a line below pytest's own, on a terminal; lines: a plain line a "
        "minute, as for the log of a CI job; auto: a bar where one is possible and nothing else "
        "writes (no -s, no --pdb), else lines",
    ),
    ("split", ("eval", "train"), "Whose names, values and wordings the documents use"),
    (
        "fail-on",
        ("nothing", "regression"),
        "With --rlm-compare: whether cells that became significantly worse fail the session",
    ),
)
"""Options with fixed values, the first of which is the default; help."""

FAIL_UNDER: Final = (
    "Fail the session where fewer cells are correct: [TASK:]ARCH[@LENGTH]>=SHARE, such as "
    "rlm@128k>=0.9 or niah:vanilla>=95%%; what is left out is each one; may be given several times"
)
PLAN: Final = (
    "Show the cells, with the tokens and time to expect, and run nothing; cells that a run of "
    "--rlm-run has already are counted too"
)
PULL: Final = "With --rlm-model ollama/NAME: if Ollama does not have the model, let it pull it"


def typed(name: str, module: str = "grid") -> Callable[[str], object]:
    """The parser `name` of ``rlm.bench.MODULE``; its `UsageError` becomes argparse's."""

    def parse(text: str) -> object:
        from importlib import import_module

        from rlm.errors import UsageError

        try:
            value: object = getattr(import_module(f"rlm.bench.{module}"), name)(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    return parse

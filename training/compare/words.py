"""``report.md``: what was found in sentences that follow from the numbers, then the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rlm.bench.grid import label
from training.compare.arms import ARMS
from training.compare.bench import BASE, NF4

Data = dict[str, Any]
NAMES: Final = {"adamw": "AdamW", "muon": "Muon", BASE: "base as shipped", NF4: "base in NF4"}
GAIN, SURE = 0.20, 0.01
"""What fine-tuning shall gain, and the p, adjusted by Holm, that this shall have."""


def markdown(data: Data) -> str:
    """The whole page."""
    parts = [
        "# AdamW against Muon",
        _about(data),
        "## What was found",
        "\n".join(f"- {sentence}" for sentence in findings(data)),
        "## Learning rates",
        _rates(data),
        "## Fresh seeds",
        _seeds(data),
        *(["## Benchmark", _benchmark(data)] if data["models"] else []),
        "## What shows that the arms match",
        _hashes(data),
    ]
    return "\n\n".join(parts) + "\n"


def findings(data: Data) -> list[str]:
    """Sentences, each of which follows from the numbers beside it."""
    found = [*_of_rates(data), *_of_divergence(data), *_of_loss(data)]
    for row in data["items"]:
        if row["left"] in (NF4, BASE) and row["right"] in ARMS:
            found.append(_of_gain(row))
        elif row["left"] in ARMS:
            found.append(_of_arms(row))
        else:
            found.append(_of_rounding(row))
    found += [_of_failures(model) for model in data["models"]]
    if not data["models"]:
        found.append("The benchmark was not asked (--eval).")
    return found


def _of_rates(data: Data) -> Iterable[str]:
    for arm in ARMS:
        told = data["grid"][arm]
        where = (
            "with a worse rate on either side"
            if told["interior"]
            else "on the edge of its grid, which was not extended any further: a better rate may "
            "lie beyond it"
        )
        count = len(told["points"])
        yield f"{NAMES[arm]}: best learning rate {told['best']:g} of {count}, {where}."


def _of_divergence(data: Data) -> Iterable[str]:
    for arm in ARMS:
        grid = [run for point in data["grid"][arm]["points"] for run in point["runs"]]
        for what, runs in (("of its grid", grid), ("with fresh seeds", data["seeds"][arm])):
            if count := sum(bool(run["diverged"]) for run in runs):
                yield f"{NAMES[arm]} diverged in {count} of {len(runs)} runs {what}."


def _of_loss(data: Data) -> Iterable[str]:
    for arm in ARMS:
        runs = [run for run in data["seeds"][arm] if not run["diverged"]]
        if runs:
            first, last = (sum(run[k] for run in runs) / len(runs) for k in ("first", "loss"))
            change = "fell" if last < first else "did not fall"
            yield (
                f"{NAMES[arm]}: the validation loss {change}, from {first:.4f} to {last:.4f} "
                f"(mean of {len(runs)} seeds)."
            )
    told = data["paired"]
    if told is None:
        yield "There is no seed in which both arms converged: their losses cannot be compared."
        return
    count = len(told["seeds"])
    value, low, high = told["difference"]
    yield (
        f"Muon's validation loss less AdamW's: {value:+.4f} {_interval(low, high, '+.4f')} over "
        f"{count} matched seeds; lower in {told['wins']}, higher in {told['losses']}; sign test "
        f"p = {told['sign']:.3g}. {_meant(value, low, high, count)} With {count} seeds a sign "
        f"test can give no p below {told['least']:.3g}."
    )


def _meant(value: float, low: float | None, high: float | None, count: int) -> str:
    """What the interval of a difference in loss says."""
    if low is None or high is None:
        return "One seed has no interval: this shows nothing."
    if low <= 0 <= high:
        return (
            "No difference is shown, as the interval holds 0; with this spread it would take one "
            f"of {(high - low) / 2:.4f} for {count} seeds to show it."
        )
    return f"{'Muon' if value < 0 else 'AdamW'} has the lower loss on this validation set."


def _of_gain(row: Data) -> str:
    value, low, high = row["difference"]
    reached = value >= GAIN and row["p_holm"] < SURE
    shown = low > 0 or high < 0
    verdict = (
        f"a gain of {100 * GAIN:.0f} points at p < {SURE} is reached"
        if reached
        else f"a gain of {100 * GAIN:.0f} points at p < {SURE} is not reached"
        + ("" if shown else ", and no effect is shown: the interval holds 0")
        + (", the effect is a loss" if high < 0 else "")
    )
    return f"{_side(row)}: {_points(row)}; {verdict}."


def _of_arms(row: Data) -> str:
    _, low, high = row["difference"]
    if low <= 0 <= high:
        verdict = "no difference between the arms is shown: the interval holds 0"
    else:
        verdict = f"{NAMES[row['right'] if low > 0 else row['left']]} answers more"
    return f"{_side(row)}: {_points(row)}; {verdict}."


def _of_rounding(row: Data) -> str:
    _, low, high = row["difference"]
    holds = low <= 0 <= high
    verdict = "no effect of rounding to NF4 is shown" if holds else "rounding to NF4 has an effect"
    return f"{_side(row)}: {_points(row)}; {verdict}."


def _side(row: Data) -> str:
    return f"{NAMES[row['right']]} less {NAMES[row['left']]} ({row['architecture']})"


def _points(row: Data) -> str:
    value, low, high = row["difference"]
    seeds = f" and {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return (
        f"{100 * value:+.1f} points {_interval(100 * low, 100 * high, '+.1f')} over "
        f"{row['items']} documents{seeds}, {row['wins']} better, {row['losses']} worse, "
        f"McNemar p = {row['p']:.2g} (Holm {row['p_holm']:.2g})"
    )


def _of_failures(model: Data) -> str:
    """What the answers that are not correct came to."""
    missed = {name: n for name, n in model["verdicts"].items() if name != "correct"}
    lengths = ", ".join(f"{label(int(n))} {a}/{b}" for n, (a, b) in model["lengths"].items())
    told = ", ".join(f"{n} {name}" for name, n in missed.items()) or "none"
    ended = ", ".join(f"{n} by {name}" for name, n in model["ended_by"].items())
    return (
        f"{model['name']} ({model['architecture']}): {model['correct']} of {model['cells']} "
        f"correct ({lengths}); not correct: {told}; ended: {ended}."
    )


def _about(data: Data) -> str:
    facts, lots = data["settings"], data["lots"]
    sizes = ", ".join(
        f"{lot['samples']} samples of {lot['documents']} documents to {name} on"
        for name, lot in lots.items()
    )
    text = (
        f"Model `{facts['model']}`, {facts['quantization']}, rank {facts['rank']}, alpha "
        f"{facts['alpha']:g}, {facts['epochs']:g} epochs, Muon with scale {facts['scale']} and "
        f"backend {facts['backend']}. {sizes[0].upper()}{sizes[1:]}. The rates were chosen on "
        "the second set, all else is on the third, with other seeds."
    )
    if data["models"]:
        text += f"\n\nBenchmark: `{data['exam']['options']}`, adapters: {data['exam']['adapters']}."
    return text


def _rates(data: Data) -> str:
    head = ("arm", "learning rate", "seeds", "loss", "replies right", "‖ΔW‖", "update RMS", "")
    rows = []
    for arm in ARMS:
        told = data["grid"][arm]
        for point in told["points"]:
            runs = point["runs"]
            note = "; ".join(run["diverged"] for run in runs if run["diverged"])
            if point["lr"] == told["best"]:
                note = "**best**" + (f"; {note}" if note else "")
            rows.append(
                (
                    *(NAMES[arm], f"{point['lr']:g}", str(len(runs)), _number(point["loss"])),
                    _average(runs, "right", ".0%"),
                    _average(runs, "delta", ".3f"),
                    _average(runs, "update_rms", ".2e"),
                    note,
                )
            )
    return f"{_table(head, rows)}\n\n![validation loss by learning rate](rates.png)"


def _seeds(data: Data) -> str:
    head = (
        *("arm", "seed", "loss at first", "loss", "replies right", "‖ΔW‖", "update RMS"),
        *("seconds", "tokens/s", ""),
    )
    rows = [
        (
            *(NAMES[arm], str(run["seed"]), _number(run["first"]), _number(run["loss"])),
            f"{run['right']:.0%}",
            *(_number(run["delta"], ".3f"), _number(run["update_rms"], ".2e")),
            *(f"{run['seconds']:.0f}", f"{run['rate']:.0f}", run["diverged"]),
        )
        for arm in ARMS
        for run in data["seeds"][arm]
    ]
    told, paired = data["paired"], ""
    if told:
        each = ", ".join(
            f"{seed}: {d:+.4f}" for seed, d in zip(told["seeds"], told["differences"], strict=True)
        )
        paired = f"\n\nMuon's loss less AdamW's, by seed: {each}. The interval is Student's t."
    plot = "\n\n![validation loss by tokens and by seconds](loss.png)"
    return f"{_table(head, rows)}{paired}{plot}\n\nThe seconds hold the validations."


def _benchmark(data: Data) -> str:
    head = (
        *("model", "architecture", "correct", "interval", "iterations", "sub-calls"),
        *("failed code cells a run", "tokens", "not measured"),
    )
    rows = [
        (
            *(m["name"], m["architecture"], f"{m['correct']}/{m['cells']}"),
            _interval(m["interval"][0], m["interval"][1], ".2f"),
            *(_number(m[k], ".2f") for k in ("iterations", "sub_calls", "failed_code")),
            *(_number(m["tokens"], ",.0f"), str(m["unmeasured"])),
        )
        for m in data["models"]
    ]
    lengths = list(dict.fromkeys(n for m in data["models"] for n in m["lengths"]))
    by_length = [
        (m["name"], m["architecture"], *("/".join(map(str, m["lengths"][n])) for n in lengths))
        for m in data["models"]
    ]
    compared = [
        (
            *(NAMES[r["left"]], NAMES[r["right"]], r["architecture"]),
            *(str(r["items"]), str(r["seeds"]), f"{100 * r['difference'][0]:+.1f}"),
            _interval(100 * r["difference"][1], 100 * r["difference"][2], "+.1f"),
            *(f"{r['wins']} / {r['losses']}", f"{r['p']:.2g}", f"{r['p_holm']:.2g}"),
        )
        for r in data["items"]
    ]
    over = (
        *("left", "right", "architecture", "documents", "seeds", "right less left, points"),
        *("95 %", "better / worse", "McNemar p", "Holm"),
    )
    return "\n\n".join(
        (
            _table(head, rows),
            _table(("model", "architecture", *(label(int(n)) for n in lengths)), by_length),
            _table(over, compared),
            "An answer counts as wrong whatever kept it from being correct. Intervals of a share "
            "are Wilson's; those of a difference a bootstrap that draws documents, and seeds where "
            "there are several. McNemar's test is exact, over documents; Holm's adjustment "
            "takes all comparisons of this table as one family.",
        )
    )


def _hashes(data: Data) -> str:
    head = ("arm", "seed", "base", "first adapter", "samples", "order", "validation set")
    keys = ("base", "initial_adapter", "samples", "order", "validation")
    rows = [
        (NAMES[arm], str(run["seed"]), *(f"`{run['hashes'].get(key, '-')[:12]}`" for key in keys))
        for arm in ARMS
        for run in data["seeds"][arm]
    ]
    told = (
        "sha256, the first twelve digits. They were compared: a difference between the arms of a "
        "seed is refused."
    )
    return f"{told}\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _average(runs: Sequence[Data], key: str, form: str) -> str:
    known = [run[key] for run in runs if run[key] is not None]
    return _number(sum(known) / len(known) if known else None, form)


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(low: float | None, high: float | None, form: str) -> str:
    return f"[{_number(low, form)}, {_number(high, form)}]"

"""Fair rounds: compared programs train by turns, and spoiled rounds are repeated and reported.

In a round every program trains once, all with the seed of the round. The order of the programs
changes from round to round. A round is spoiled if other processes used the processor, or if the
baseline is far from its median. Spoiled rounds stay in the raw figures but count for nothing.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

MOST_OTHER_CORES = 0.25
MOST_OFF_MEDIAN = 0.10
FIRST_SEED = 42
# From so many rounds on the baseline has a median to be compared with.
ENOUGH = 3
COLUMNS = {
    "tokens": ("tokens", ",.0f"),
    "train_loss": ("training loss, last step", ".3f"),
    "loss": ("evaluation loss", ".4f"),
}

Programs = Mapping[str, Callable[[int], dict[str, Any]]]
Rows = list[dict[str, Any]]


def measure(programs: Programs, baseline: str, count: int) -> Rows:
    """Run rounds until `count` are not spoiled, at most twice as many, and return all of them.

    A program takes the seed of the round and returns its figures, `tokens_per_s` among them.
    """
    rows: Rows = []
    while len(rows) < 2 * count and len(counted(rows)) < count:
        rows.append(_round(programs, len(rows)))
        mark_spoiled(rows, baseline)
        print(rows[-1], flush=True)
    return rows


def order(names: Sequence[str], number: int) -> list[str]:
    """Return the order of a round: reversed in every other one, and begun one later each time."""
    start = (number // 2) % len(names)
    turned = [*names[start:], *names[:start]]
    return turned[::-1] if number % 2 else turned


def _round(programs: Programs, number: int) -> dict[str, Any]:
    names = order(list(programs), number)
    row: dict[str, Any] = {"round": number, "order": " ".join(names), "seed": FIRST_SEED + number}
    others = 0.0
    for name in names:
        load = OtherLoad()
        figures = programs[name](row["seed"])
        others = max(others, load.cores())
        row |= {f"{name}_{key}": value for key, value in figures.items()}
    return row | {"other_cores": round(others, 2), "spoiled": ""}


def mark_spoiled(rows: Rows, baseline: str) -> None:
    """Write into every row why it is spoiled, or an empty text."""
    for row in rows:
        busy = float(row["other_cores"]) > MOST_OTHER_CORES
        row["spoiled"] = f"other processes used {row['other_cores']} cores" if busy else ""
    speeds = {row["round"]: row[f"{baseline}_tokens_per_s"] for row in counted(rows)}
    if len(speeds) < ENOUGH:
        return
    median = statistics.median(speeds.values())
    for row in counted(rows):
        off = speeds[row["round"]] / median - 1
        if abs(off) > MOST_OFF_MEDIAN:
            row["spoiled"] = f"the baseline is {off:+.0%} off its median"


def counted(rows: Rows) -> Rows:
    """Return the rounds that are not spoiled."""
    return [row for row in rows if not row.get("spoiled")]


class OtherLoad:
    """Measure the cores that processes outside this one's tree use. Only Linux tells; else 0."""

    def __init__(self) -> None:
        self._began, self._busy = time.monotonic(), _busy_by_others()

    def cores(self) -> float:
        """Return the average since the construction."""
        elapsed = max(time.monotonic() - self._began, 1e-3)
        return max(0.0, (_busy_by_others() - self._busy) / elapsed)


def _busy_by_others() -> float:
    if platform.system() != "Linux":
        return 0.0
    whole = psutil.cpu_times()
    own = 0.0
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            own += sum(process.cpu_times()[:4])  # with ended children
        except psutil.NoSuchProcess:
            continue
    return float(whole.user + whole.nice + whole.system + whole.irq + whole.softirq) - own


def summary(rows: Rows) -> str:
    """Return one sentence about the rounds: how many count, and why others do not."""
    good = counted(rows)
    if "order" not in rows[0]:
        return (
            f"{len(rows)} rounds in one order; spoiled rounds were neither repeated nor left out."
        )
    text = f"{len(good)} rounds, in changing order, each with a seed of its own; "
    reasons = [f"round {row['round']:.0f}: {row['spoiled']}" for row in rows if row["spoiled"]]
    if not reasons:
        return text + "none was spoiled."
    return text + f"{len(reasons)} more were spoiled and do not count ({'; '.join(reasons)})."


def table(rows: Rows, titles: Mapping[str, str], ours: str) -> list[str]:
    """Return a table with a line per program: speed, ratio, tokens and losses."""
    good = counted(rows)
    heads = ["program", "useful tokens/s", "ours ÷ it", *(head for head, _ in COLUMNS.values())]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    for name, title in titles.items():
        lines.append(_line([title, *_cells(good, name, ours)]))
    return lines


def _cells(good: Rows, name: str, ours: str) -> list[str]:
    speeds = _values(good, name, "tokens_per_s")
    ratios = [
        row[f"{ours}_tokens_per_s"] / row[f"{name}_tokens_per_s"]
        for row in good
        if row.get(f"{name}_tokens_per_s")
    ]
    cells = [_spread(speeds, ",.0f"), "" if name == ours else _spread(ratios, ".2f")]
    return cells + [_spread(_values(good, name, key), form) for key, (_, form) in COLUMNS.items()]


def _values(good: Rows, name: str, key: str) -> list[float]:
    values = (row.get(f"{name}_{key}") for row in good)
    return [float(value) for value in values if value not in (None, "")]


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "not measured"
    median, least, most = (
        format(value, form) for value in (statistics.median(values), min(values), max(values))
    )
    return median if least == most else f"{median} ({least} to {most})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

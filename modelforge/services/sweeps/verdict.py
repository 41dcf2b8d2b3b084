"""Whether the best trial of a sweep is better than the user's own settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelforge.diagnosis.comparison import Difference, compare, effect_worth_having

# The contestant of an evaluation that is the trained model.
TUNED = "tuned"


def compare_rows(own: Path, best: Path) -> Difference | None:
    """Compare the losses of two models on the rows that both evaluations have.

    `own` and `best` are files `answers.jsonl`. None where they have no row in common.
    """
    known, other = dict(_losses(own)), dict(_losses(best))
    shared = [key for key in known if key in other]
    if not shared:
        return None
    base = [known[key] for key in shared]
    worth = effect_worth_having("nats", base)
    tuned = [other[key] for key in shared]
    return compare(base, tuned, direction="lower", worth_having=worth)


def sentence(difference: Difference | None, own: float, best: float) -> str:
    """Return the result in words: what to do with the best trial."""
    losses = f"The best trial reached {best:.3f}, your own settings {own:.3f}."
    if difference is None or difference.value is None:
        return f"{losses} The rows could not be compared one by one."
    how_sure = ""
    if difference.low is not None and difference.high is not None:
        how_sure = f" (95 % interval {-difference.high:.3f} to {-difference.low:.3f})"
    by = f"{-difference.value:.3f}{how_sure}"
    if difference.kind == "better":
        return f"{losses} On the same rows its loss is lower by {by}. Use the best trial."
    needed = difference.rows_needed
    rows = f" About {needed:,} evaluation rows would be needed." if needed else ""
    chance = f"The difference of {by} on {difference.rows} rows may be chance."
    return f"{losses} No difference shown: {chance}{rows} Keep your settings."


def _losses(path: Path) -> Iterator[tuple[str, float]]:
    """Yield the mean loss of a token of each row, with the key of the row."""
    for text in path.read_text("utf-8", "replace").splitlines() if path.is_file() else ():
        try:
            line: Any = json.loads(text)
        except ValueError:  # the last line of a process that was ended
            continue
        if isinstance(line, dict) and line.get("contestant") == TUNED and line.get("tokens"):
            yield str(line.get("key")), float(line["nats"]) / float(line["tokens"])

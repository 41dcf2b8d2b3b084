"""Which rows are trained on and which are kept aside to check on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

from modelforge.data.canonical.convert import Canonical, fingerprint
from modelforge.errors import DataError, Problem


def split_indices(
    rows: Iterable[Canonical | str],
    eval_split: float,
    seed: int,
    strata: Sequence[int] | None = None,
) -> tuple[list[int], list[int]]:
    """Return the indices to train on and to evaluate on, each in the order of the rows.

    The same rows, share and seed give the same halves, and copies of one row stay together.
    With `strata`, the number of its source for each row, every source gives its share, and keeps
    a row to train on. Raises DataError when either half would be empty; a share of 0 asks for no
    evaluation.
    """
    alike: dict[str, list[int]] = {}
    count = 0
    for index, row in enumerate(rows):
        alike.setdefault(row if isinstance(row, str) else fingerprint(row), []).append(index)
        count += 1
    _check(count, len(alike), eval_split)
    if eval_split == 0:
        return list(range(count)), []
    _trained, wanted = split_counts(count, eval_split)
    groups = list(alike.values())
    random.Random(seed).shuffle(groups)
    quotas = _quotas(wanted, list(strata) if strata is not None else [0] * count)
    held: list[int] = []
    for group in groups:
        # Copies count where the first of them stands.
        source = strata[group[0]] if strata is not None else 0
        if len(group) <= quotas[source]:
            held.extend(group)
            quotas[source] -= len(group)
    if not held:
        smallest = min(groups, key=len)
        held = list(smallest)
    kept = set(held)
    return [index for index in range(count) if index not in kept], sorted(held)


def _quotas(wanted: int, strata: list[int]) -> dict[int, int]:
    """Return how many rows of each source are held out: its share, the largest rests rounded up."""
    counts = Counter(strata)
    shares = {source: wanted * count / len(strata) for source, count in counts.items()}
    quotas = {source: int(share) for source, share in shares.items()}
    by_rest = sorted(shares, key=lambda source: (quotas[source] - shares[source], source))
    for source in by_rest[: wanted - sum(quotas.values())]:
        quotas[source] += 1
    if len(counts) == 1:
        return quotas
    return {source: min(quota, counts[source] - 1) for source, quota in quotas.items()}


def split_counts(count: int, eval_split: float) -> tuple[int, int]:
    """Return how many of `count` rows are trained on and kept aside, before any is read.

    Raises DataError like `split`; copies of one row may move the real split by a few rows.
    """
    _check(count, min(count, 2), eval_split)
    if eval_split == 0:
        return count, 0
    held = min(max(1, round(count * eval_split)), count - 1)
    return count - held, held


def _check(count: int, different: int, eval_split: float) -> None:
    if count == 0:
        what, remedy = "has no usable row.", "Give a file with at least one row."
        raise DataError(Problem("dataset", what, remedy))
    if eval_split == 0:
        return
    if eval_split >= 1:
        what = f"{eval_split:g} leaves no row to train on; it must be below 1."
        raise DataError(Problem("eval_split", what, "Give a share from 0 to 0.5, such as 0.1."))
    if different == 1:
        rows = "1 row" if count == 1 else f"{count:,} copies of one row"
        what = f"{eval_split:g} of {rows} leaves one side empty; two different rows are needed."
        raise DataError(Problem("eval_split", what, "Add rows, or give 0 for no evaluation."))

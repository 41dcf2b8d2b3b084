"""Split rows into training and evaluation rows."""

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
    """Return the indices of training and evaluation rows, each in the order of the rows.

    The result depends only on rows, split and seed. Duplicates of a row stay on one side.

    `rows` are canonical rows or their fingerprints, and `eval_split` is the share of the evaluation
    rows. With `strata`, the source of each row, every source gives its share and keeps a training
    row.

    Raises:
        DataError: one side would be empty.
    """
    duplicates: dict[str, list[int]] = {}
    count = 0
    for index, row in enumerate(rows):
        key = row if isinstance(row, str) else fingerprint(row)
        duplicates.setdefault(key, []).append(index)
        count += 1
    _check(count, len(duplicates), eval_split)
    if eval_split == 0:
        return list(range(count)), []
    _, wanted = split_counts(count, eval_split)
    groups = list(duplicates.values())
    random.Random(seed).shuffle(groups)
    evaluation = sorted(_take(groups, wanted, strata or [0] * count))
    members = set(evaluation)
    return [index for index in range(count) if index not in members], evaluation


def _take(groups: list[list[int]], wanted: int, strata: Sequence[int]) -> list[int]:
    """Return the rows of the first groups that fit; of the smallest group if none fits."""
    quotas = _quotas(wanted, strata)
    taken: list[int] = []
    for group in groups:
        # Duplicates count for the source of the first of them.
        source = strata[group[0]]
        if len(group) <= quotas[source]:
            taken.extend(group)
            quotas[source] -= len(group)
    return taken or min(groups, key=len)


def split_counts(count: int, eval_split: float) -> tuple[int, int]:
    """Return the expected numbers of training and evaluation rows among `count` rows.

    Raises DataError as `split_indices` does. Duplicates may change the actual split by a few rows.
    """
    _check(count, min(count, 2), eval_split)
    if eval_split == 0:
        return count, 0
    held_out = min(max(1, round(count * eval_split)), count - 1)
    return count - held_out, held_out


def _quotas(wanted: int, strata: Sequence[int]) -> dict[int, int]:
    """Return the number of evaluation rows per source; largest remainders are rounded up."""
    counts = Counter(strata)
    shares = {source: wanted * count / len(strata) for source, count in counts.items()}
    quotas = {source: int(share) for source, share in shares.items()}
    by_remainder = sorted(shares, key=lambda source: (quotas[source] - shares[source], source))
    for source in by_remainder[: wanted - sum(quotas.values())]:
        quotas[source] += 1
    if len(counts) == 1:
        return quotas
    return {source: min(quota, counts[source] - 1) for source, quota in quotas.items()}


def _check(count: int, distinct: int, eval_split: float) -> None:
    if count == 0:
        what, remedy = "has no usable row.", "Use a file with at least one row."
        raise DataError(Problem("dataset", what, remedy))
    if eval_split == 0:
        return
    if eval_split >= 1:
        what = f"{eval_split:g} leaves no row to train on; it must be less than 1."
        raise DataError(Problem("eval_split", what, "Give a share from 0 to 0.5, such as 0.1."))
    if distinct == 1:
        rows = "1 row" if count == 1 else f"{count:,} copies of one row"
        what = f"{eval_split:g} of {rows} leaves one side empty; two different rows are needed."
        raise DataError(Problem("eval_split", what, "Add rows, or give 0 for no evaluation."))

from collections import Counter

import pytest

from modelforge.data.sources.load import copies_per_row, count_rows_taken


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("samples", [None, 1, 5, 1000])
@pytest.mark.parametrize("weight", [0.01, 0.5, 1, 1.25, 2, 3.5])
def test_the_number_of_rows_is_predicted(rows, samples, weight):
    times = copies_per_row(rows, samples, weight, 42, 0)
    given = [times(number) for number in range(rows)]
    assert sum(given) == count_rows_taken(rows, samples, weight) > 0
    kept = [count for count in given if count]
    assert len(kept) <= (samples or rows)
    assert max(kept) - min(kept) <= 1


def test_a_weight_repeats_or_skips_rows():
    def given(weight):
        times = copies_per_row(100, None, weight, 42, 0)
        return Counter(times(number) for number in range(100))

    assert given(1) == {1: 100}
    assert given(2) == {2: 100}
    assert given(0.5) == {0: 50, 1: 50}
    assert given(1.25) == {1: 75, 2: 25}


def test_samples_are_drawn_with_the_seed_from_all_rows():
    def drawn(seed, place=0):
        times = copies_per_row(1000, 10, 1, seed, place)
        return [number for number in range(1000) if times(number)]

    assert len(drawn(1)) == 10
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1) != drawn(1, place=1)
    assert max(drawn(1)) > 100


def test_a_row_added_after_the_summary_is_not_drawn():
    assert copies_per_row(10, 5, 1, 1, 0)(10) == 0
    assert copies_per_row(10, None, 2, 1, 0)(11) == 0

import pytest

from modelforge.data.split import split
from modelforge.errors import DataError

ROWS = [f"row {n}" for n in range(100)]


def test_the_halves_are_whole_disjoint_and_of_the_share_asked_for() -> None:
    train, held = split(ROWS, 0.2, 42)
    assert len(held) == 20
    assert sorted(train + held) == list(range(100))


def test_the_same_seed_gives_the_same_halves_and_another_gives_others() -> None:
    assert split(ROWS, 0.2, 42) == split(ROWS, 0.2, 42)
    assert split(ROWS, 0.2, 42) != split(ROWS, 0.2, 43)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_copies_never_stand_on_both_sides(share: float, seed: int) -> None:
    rows = ["a", "b", "c", "a", "b", "a", "d", "a"] * 3
    train, held = split(rows, share, seed)
    assert train
    assert held
    assert not {rows[n] for n in train} & {rows[n] for n in held}


def test_canonical_rows_are_compared_by_what_they_say() -> None:
    rows = [{"text": "a"}, {"text": " a "}, {"text": "b"}]
    train, held = split(rows, 0.5, 1)
    assert sorted(map(len, (train, held))) == [1, 2]


def test_no_evaluation_keeps_every_row() -> None:
    assert split(ROWS, 0, 42) == (list(range(100)), [])
    assert split(["only"], 0.0, 42) == ([0], [])


def test_a_share_of_one_is_refused_with_the_bound() -> None:
    with pytest.raises(DataError) as caught:
        split(ROWS, 1, 42)
    (problem,) = caught.value.problems
    assert problem.where == "eval_split"
    assert "below 1" in problem.what


@pytest.mark.parametrize("rows", [["a"], ["a", "a"]])
def test_one_row_cannot_be_split(rows: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        split(rows, 0.2, 42)
    assert caught.value.problems[0].where == "eval_split"
    assert "0 for no evaluation" in caught.value.problems[0].remedy

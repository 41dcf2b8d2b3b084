import pytest

from modelforge.data.sources.split import split_indices
from modelforge.errors import DataError

ROWS = [f"row {n}" for n in range(100)]


def test_the_sides_are_complete_disjoint_and_of_the_requested_share() -> None:
    train, held = split_indices(ROWS, 0.2, 42)
    assert len(held) == 20
    assert sorted(train + held) == list(range(100))


def test_the_same_seed_gives_the_same_split_and_another_gives_another() -> None:
    assert split_indices(ROWS, 0.2, 42) == split_indices(ROWS, 0.2, 42)
    assert split_indices(ROWS, 0.2, 42) != split_indices(ROWS, 0.2, 43)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_duplicates_stay_on_one_side(share: float, seed: int) -> None:
    rows = ["a", "b", "c", "a", "b", "a", "d", "a"] * 3
    train, held = split_indices(rows, share, seed)
    assert train
    assert held
    assert not {rows[n] for n in train} & {rows[n] for n in held}


def test_canonical_rows_are_compared_by_their_text() -> None:
    rows = [{"text": "a"}, {"text": " a "}, {"text": "b"}]
    train, held = split_indices(rows, 0.5, 1)
    assert sorted(map(len, (train, held))) == [1, 2]


def test_no_evaluation_keeps_every_row() -> None:
    assert split_indices(ROWS, 0, 42) == (list(range(100)), [])
    assert split_indices(["only"], 0.0, 42) == ([0], [])


def test_a_share_of_one_is_refused_with_the_limit() -> None:
    with pytest.raises(DataError) as caught:
        split_indices(ROWS, 1, 42)
    (problem,) = caught.value.problems
    assert problem.where == "eval_split"
    assert "less than 1" in problem.what


@pytest.mark.parametrize("rows", [["a"], ["a", "a"]])
def test_one_row_cannot_be_split(rows: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        split_indices(rows, 0.2, 42)
    assert caught.value.problems[0].where == "eval_split"
    assert "0 for no evaluation" in caught.value.problems[0].remedy


def test_every_source_gives_its_share() -> None:
    strata = [0] * 60 + [1] * 30 + [2] * 10
    train, held = split_indices(ROWS, 0.2, 42, strata)
    assert [sum(strata[n] == source for n in held) for source in range(3)] == [12, 6, 2]
    assert sorted(train + held) == list(range(100))
    assert split_indices(ROWS, 0.2, 42, strata) == (train, held)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(5))
def test_duplicates_in_two_sources_stay_on_one_side(share: float, seed: int) -> None:
    rows = [f"{n % 12}" for n in range(40)]
    strata = [0] * 20 + [1] * 20
    train, held = split_indices(rows, share, seed, strata)
    assert train
    assert held
    assert not {rows[n] for n in train} & {rows[n] for n in held}


def test_a_small_source_keeps_a_training_row() -> None:
    strata = [0] * 98 + [1] * 2
    for seed in range(20):
        train, _ = split_indices(ROWS, 0.9, seed, strata)
        assert {strata[n] for n in train} == {0, 1}


def test_one_source_is_split_as_without_sources() -> None:
    assert split_indices(ROWS, 0.2, 7, [0] * 100) == split_indices(ROWS, 0.2, 7)

"""The next run is prepared from a report: general rows mixed in, more evaluation rows."""

from __future__ import annotations

import pytest

from modelforge.data.sources.library import load_samples
from modelforge.errors import ConfigError
from tests.runs.homes import put_run
from ui.pages.run import next_run
from ui.pages.run.next_run import GENERAL, current_sources, eval_share, with_general

OWN = [{"path": "a.jsonl", "weight": 2.0}, {"path": "b.jsonl"}]


@pytest.fixture
def run(forge):
    def make(**config):
        return forge.runs.view(put_run(forge.home.root, **config).id)

    return make


def sample_rows() -> int:
    return next(sample.rows for sample in load_samples() if sample.dataset == GENERAL)


def test_the_sources_are_those_of_the_prepared_run_then_those_of_the_run(run):
    single = run(dataset="rows.jsonl")
    assert current_sources(single, {}) == [{"path": "rows.jsonl"}]
    assert current_sources(single, {"data.sources": OWN}) == OWN
    assert current_sources(single, {"dataset": "other.jsonl"}) == [{"path": "other.jsonl"}]
    several = run(number=1, dataset="a.jsonl", data={"sources": OWN})
    assert current_sources(several, {}) == OWN
    overridden = {"data.sources": [], "dataset": "c.jsonl"}
    assert current_sources(several, overridden) == [{"path": "c.jsonl"}]


def test_general_rows_are_mixed_in_once():
    mixed = with_general(OWN, 20)
    assert mixed == [*OWN, {"path": GENERAL, "samples": 20}]
    assert with_general(mixed, 30) == [*OWN, {"path": GENERAL, "samples": 30}]


def test_more_rows_than_the_sample_has_are_repeated():
    rows = sample_rows() * 3
    assert with_general([], rows) == [{"path": GENERAL, "weight": 3.0}]


@pytest.mark.parametrize(("rows", "all_rows"), [(60, 410), (1, 7), (50, 100), (333, 1000)])
def test_the_share_holds_out_at_least_the_rows(rows, all_rows):
    share = eval_share(rows, all_rows)
    assert rows <= share * all_rows + 1e-9
    assert share <= 0.5
    assert (share - 0.001) * all_rows < rows


@pytest.mark.parametrize(("rows", "all_rows"), [(51, 100), (0, 100), (1, 0)])
def test_too_many_evaluation_rows_are_refused(rows, all_rows):
    with pytest.raises(ConfigError, match="too few to train on"):
        eval_share(rows, all_rows)


def test_the_functions_return_values_of_settings(forge, run):
    made = run(dataset="rows.jsonl")
    mix, hold_out = next_run.functions(forge)
    reply = mix({"run": made.id, "rows": 12, "values": {"dataset": "copy.jsonl"}})
    sources = [{"path": "copy.jsonl"}, {"path": GENERAL, "samples": 12}]
    assert reply.values == {"data.sources": sources}
    assert "12 general rows" in reply.toast
    assert hold_out({"run": made.id, "rows": 2, "values": "x"}).values["eval_split"] > 0

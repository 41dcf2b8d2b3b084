"""The list of runs, its filters and queries."""

from __future__ import annotations

import pytest

from modelforge.runs.listing import TRIAL, RunFilter
from tests.runs.homes import put_run
from ui.pages import compare, machine
from ui.pages.runs import table
from ui.pages.runs.page import read_query

FOUL = '"><script>alert(1)</script>'


def test_an_empty_list_says_what_to_do(forge):
    page = forge.history.page()
    assert "No runs yet" in table.run_rows(page)
    assert table.filters(page, RunFilter(), "") == ""
    page.states[TRIAL] = 2
    assert "Only trials yet" in table.run_rows(page)
    put_run(forge.home.root)
    assert "No run matches" in table.run_rows(forge.history.page(RunFilter(query="unknown")))


def test_a_row_shows_cause_size_tags_and_note(forge):
    run = put_run(forge.home.root, name="mine", ending="failed")
    forge.history.annotate(run.id, tags=["keep"], note="Try a smaller batch.")
    drawn = table.run_rows(forge.history.page())
    for text in ("failed", "Memory ran out.", "KiB", "#keep", "Try a smaller batch."):
        assert text in drawn
    assert f'id="resume-run-{run.id}"' in drawn


def test_a_row_names_its_method_and_the_title_of_its_sample(forge):
    put_run(forge.home.root, dataset="sample:brief", strategy="dpo")
    put_run(forge.home.root, 1, dataset="/home/me/rows.jsonl")
    drawn = table.run_rows(forge.history.page())
    assert " · DPO · Short or rambling · " in drawn
    assert " · SFT · rows.jsonl · " in drawn


def test_nothing_that_users_write_becomes_markup(forge):
    runs = [put_run(forge.home.root, n, dataset=FOUL, model_name=FOUL) for n in range(2)]
    for run in runs:
        forge.history.annotate(run.id, name=FOUL, tags=[FOUL[:30]], note=FOUL)
    page = forge.history.page()
    comparison = forge.history.compare([run.id for run in runs])
    parts = [
        table.run_rows(page),
        table.filters(page, RunFilter(), ""),
        *compare.comparison_parts(comparison, "step", {}).values(),
        *machine.storage_parts(forge.storage.usage()).values(),
    ]
    assert not any("<script" in part for part in parts)


def test_only_states_that_occur_are_filters(forge):
    put_run(forge.home.root, 1)
    put_run(forge.home.root, 2, ending=None)
    drawn = table.filters(forge.history.page(), RunFilter(), "failed")
    assert "Finished" in drawn
    assert "Stopped" not in drawn
    assert drawn.count('aria-pressed="true"') == 1


def test_the_rest_of_a_long_list_is_offered(forge):
    for number in range(4):
        put_run(forge.home.root, number)
    assert "2 of 4 runs" in table.show_more(forge.history.page(limit=2))
    assert table.show_more(forge.history.page(limit=4)) == ""


@pytest.mark.parametrize("sent", [None, [], {"sort": "x", "group": "x", "query": 3}])
def test_an_invalid_query_shows_all_runs_but_the_waiting(sent):
    assert read_query(sent) == read_query({})
    assert read_query({}).states >= {"running", "finished", "lost"}
    assert "queued" not in read_query({}).states


def test_filters_are_states(forge):
    assert read_query({"group": "failed"}).states == {"failed", "lost"}


@pytest.mark.parametrize(
    ("method", "event", "expected"),
    [
        (
            "rlhf",
            ("step", {"step": 5, "loss": 0.1, "stage": 2, "metrics": {"reward": 0.75}}),
            ("mean reward", 0.75),
        ),
        (
            "dpo",
            ("eval", {"step": 5, "loss": 0.4, "metrics": {"rewards/margins": 0.3}}),
            ("evaluation reward margin", 0.3),
        ),
    ],
)
def test_a_row_shows_the_main_metric_of_its_method(ended_run, method, event, expected):
    assert table.main_metric(ended_run(method=method, events=[event])) == expected


def test_the_view_of_a_run_has_stage_scores_and_metrics(ended_run):
    step = {"step": 5, "loss": 0.1, "stage": 2, "metrics": {"reward": 0.75, "kl": 0.01}}
    scores = {"rows": 3, "before": None, "after": {"perplexity": 9.0}}
    view = ended_run(method="rlhf", events=[("step", step), ("scores", scores)])
    assert (view.stage, view.scores["rows"], view.metrics["kl"]) == (2, 3, 0.01)


def test_a_run_of_the_first_release_shows_its_loss(ended_run):
    assert table.main_metric(ended_run())[0] in ("loss", "evaluation loss")

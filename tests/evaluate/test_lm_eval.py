"""What a report takes from the results of lm-eval."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.torch


def found(*values, task="mine"):
    """Return results as `lm_eval.simple_evaluate` of 0.4.13 gives them."""
    mean = sum(values) / len(values)
    return {
        "results": {task: {"alias": task, "acc,none": mean, "acc_stderr,none": "N/A"}},
        "samples": {task: [{"doc_id": n, "acc": value} for n, value in enumerate(values)]},
    }


def test_a_task_has_both_values_and_the_interval_of_the_change():
    from modelforge.evaluate.lm_eval import task_entries

    base, tuned = [0.0] * 30 + [1.0] * 10, [1.0] * 30 + [0.0] * 10
    (entry,) = task_entries({"base": found(*base), "tuned": found(*tuned)})
    assert (entry["task"], entry["metric"]) == ("mine", "acc")
    assert (entry["base"], entry["tuned"]) == (0.25, 0.75)
    low, high = entry["interval"]
    assert 0 < low < 0.5 < high < 1
    (alone,) = task_entries({"tuned": found(*tuned)})
    assert (alone["base"], alone["interval"]) == (None, None)


def test_missing_data_and_unknown_tasks_are_said():
    from modelforge.evaluate.lm_eval import task_note

    offline = ConnectionError("Couldn't reach 'x' on the Hub (OfflineModeIsEnabled)")
    assert "is not on this computer" in task_note("arc_easy", offline)
    assert task_note("nonesuch", KeyError("nonesuch")) == "lm-eval has no task nonesuch."
    assert "out of memory" in task_note("arc_easy", RuntimeError("out of memory\nmore"))


def test_without_lm_eval_the_command_that_installs_it_is_said(monkeypatch):
    from modelforge.errors import MissingPackageError
    from modelforge.evaluate import lm_eval

    monkeypatch.setattr(lm_eval, "find_spec", lambda _name: None)
    job = SimpleNamespace(request=SimpleNamespace(tasks=("arc_easy",)))
    with pytest.raises(MissingPackageError, match="setup --with lm-eval"):
        lm_eval.measure_tasks(job, None, [], None, None)

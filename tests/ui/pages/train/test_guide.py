"""The welcome of the Train page, and the bar of the run in progress."""

from dataclasses import replace

import pytest

from ui.pages.train import guide
from ui.pages.train.form import Entered


def test_the_welcome_stays_until_data_is_chosen(forge):
    found = forge.layers.stack(Entered())
    shown = guide.intro(forge, found, "")
    assert "With a sample" not in shown, "no model is here, so there is no estimate"
    assert "Nothing leaves this computer." in shown
    assert guide.intro(forge, found, "rows.jsonl") == '<h1 class="gone">Train a model</h1>'


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(0, "this run will start next"), (1, "1 queued run will start"), (3, "3 queued runs will")],
)
def test_the_bar_says_what_starts_before(forge, ended_run, monkeypatch, waiting, expected):
    run = ended_run()
    assert guide.in_progress(forge) == ""
    monkeypatch.setattr(forge.runs, "active", lambda: run.id)
    view = replace(forge.queue.view(), runs=[None] * waiting)
    monkeypatch.setattr(forge.queue, "view", lambda: view)
    shown = guide.in_progress(forge)
    assert expected in shown
    assert f'href="/?run={run.id}"' in shown

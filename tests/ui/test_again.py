"""What is offered for a run that is over, and how it is drawn."""

from __future__ import annotations

import dataclasses

import pytest

from modelforge.runs import checkpoints
from modelforge.services.resume import rate_when_longer
from tests.ui.test_results import forge, left  # noqa: F401
from ui.pages.run.resume import row_action, ways
from ui.pages.run.side_panel import Seen, _ended
from ui.pages.run.state import RunPicture

FAILED = [("failed", {"cause": "disk-full", "what": "<b>Full</b>", "remedy": "Free some."})]


def save(folder, step):
    made = folder.checkpoints / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "trainer_state.json").write_text("{}", "utf-8")
    checkpoints.write_manifest(made, step=step, stage=None)
    return made


def drawn(forge, run):  # noqa: F811
    return ways(run, forge.again.offers(run.id))


def chat_link(forge, run):  # noqa: F811
    shown = _ended(Seen(run, RunPicture(), {}, has_result=True, offers=forge.again.offers(run.id)))
    return shown[: shown.index("Chat with it")]


def test_a_finished_run_can_be_continued_but_not_resumed(forge):  # noqa: F811
    run = left(forge)
    save(forge.folder(run.id), 12)
    shown = drawn(forge, run)
    assert 'data-do="again-resume"' not in shown
    assert 'data-do="again-continue"' in shown
    assert 'data-do="again-start-from"' in shown
    assert "at update 12" in shown
    assert row_action(run) == ""
    assert 'class="btn go wide"' in chat_link(forge, run)


def test_a_failed_run_says_where_it_would_go_on_and_what_is_passed_over(forge):  # noqa: F811
    run = left(forge, said=FAILED)
    folder = forge.folder(run.id)
    save(folder, 1_200)
    (save(folder, 1_300) / "trainer_state.json").unlink()
    shown = drawn(forge, run)
    assert "Resume from update 1,200" in shown
    assert "checkpoint-1300 is passed over: trainer_state.json is missing." in shown
    assert f'data-run="{run.id}"' in row_action(run)
    assert 'class="btn wide"' in chat_link(forge, run)


def test_a_run_of_an_older_release_begins_again(forge):  # noqa: F811
    run = left(forge, said=FAILED)
    (forge.folder(run.id).checkpoints / "checkpoint-8").mkdir(parents=True)
    shown = drawn(forge, run)
    assert "Begin again" in shown
    assert "Begins anew: nothing was saved." in shown
    assert "again-continue" not in shown


@pytest.mark.parametrize(
    ("schedule", "said"), [("cosine", "planned anew"), ("constant", "stays where it is")]
)
def test_what_becomes_of_the_learning_rate_is_said(forge, schedule, said):  # noqa: F811
    run = left(forge)
    planned = dataclasses.replace(run.plan, lr_scheduler_type=schedule)
    run = dataclasses.replace(run, plan=planned)
    assert said in rate_when_longer(run, 5)


def test_a_new_run_from_an_adapter_has_the_settings_of_the_old_one(forge):  # noqa: F811
    run = left(forge)
    answers = forge.again.answers_from(run.id, {"num_train_epochs": 3})
    assert answers["adapter"]["start_from"] == run.id
    assert answers["num_train_epochs"] == 3
    assert answers["model_name"] == run.config["model_name"]

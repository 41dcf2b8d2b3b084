"""The actions for a run that is over."""

from __future__ import annotations

import dataclasses

import pytest

from modelforge.runs import checkpoints
from modelforge.runs.layout import REWARD_MODEL_DONE
from modelforge.runs.timeline import Timeline
from modelforge.runs.view import read_row
from modelforge.services.resume import rate_when_longer
from ui.pages.run.side_panel import RunSnapshot, resume_actions, side
from ui.pages.runs.table import resume_label

FAILED = [("failed", {"cause": "disk-full", "what": "<b>Full</b>", "remedy": "Free some."})]


def save(folder, step, stage=None):
    made = folder.checkpoints / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "trainer_state.json").write_text("{}", "utf-8")
    checkpoints.write_manifest(made, step=step, stage=stage)
    return made


def actions(forge, run):
    return resume_actions(run, forge.resume.options(run.id))


def chat_link(forge, run):
    offers = forge.resume.options(run.id)
    shown = side(RunSnapshot(run, Timeline(), {}, has_result=True, offers=offers))
    return shown[: shown.index("Chat with it")].rpartition("<a")[2]


def test_a_finished_run_can_be_continued_but_not_resumed(forge, ended_run):
    run = ended_run()
    save(forge.runs.folder(run.id), 12)
    shown = actions(forge, run)
    assert 'data-action="resume-run"' not in shown
    assert 'data-action="continue-run"' in shown
    assert 'data-action="start-from-run"' in shown
    assert 'class="btn wide go"' in chat_link(forge, run)


def test_a_failed_run_says_where_it_resumes_and_which_checkpoint_is_skipped(forge, ended_run):
    run = ended_run(events=FAILED)
    folder = forge.runs.folder(run.id)
    save(folder, 1_200)
    (save(folder, 1_300) / "trainer_state.json").unlink()
    shown = actions(forge, run)
    assert "Resume from step 1,200" in shown
    assert "checkpoint-1300 is skipped: trainer_state.json is missing." in shown
    assert 'class="btn wide"' in chat_link(forge, run)


def test_a_run_of_an_older_release_starts_again(forge, ended_run):
    run = ended_run(events=FAILED)
    (forge.runs.folder(run.id).checkpoints / "checkpoint-8").mkdir(parents=True)
    shown = actions(forge, run)
    assert "Start again" in shown
    assert '<p class="help">' in shown
    assert "continue-run" not in shown


def test_a_run_resumes_with_its_second_stage_once_it_has_a_reward_model(forge, ended_run):
    run = ended_run(events=FAILED)
    folder = forge.runs.folder(run.id)
    folder.reward_model.mkdir()
    (folder.reward_model / REWARD_MODEL_DONE).write_text("{}", "utf-8")
    offers = forge.resume.options(run.id)
    assert (offers.resume.step, offers.resume.stage) == (0, 2)
    shown = actions(forge, run)
    assert ">Resume with stage 2</button>" in shown
    assert 'class="btn go"' in shown
    assert "Start again" not in shown
    row = forge.history.row(run.id)
    assert resume_label(row) == "Resume"


@pytest.mark.parametrize(("stage", "label"), [(1, "step 6"), (2, "step 6 of stage 2")])
def test_a_run_with_stages_says_in_which_it_resumes(forge, ended_run, stage, label):
    run = ended_run(events=FAILED)
    save(forge.runs.folder(run.id), 6, stage)
    assert f">Resume from {label}</button>" in actions(forge, run)


def test_the_runs_page_says_start_again_where_nothing_is_kept(forge, ended_run):
    run = ended_run(events=FAILED)
    folder = forge.runs.folder(run.id)
    assert resume_label(forge.history.row(run.id)) == "Start again"
    assert "Start again" in actions(forge, run)
    save(folder, 4)
    assert resume_label(read_row(folder)[0]) == "Resume"


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_of_a_longer_run_is_explained(ended_run, schedule):
    run = ended_run()
    planned = dataclasses.replace(run.plan, lr_scheduler_type=schedule)
    assert rate_when_longer(dataclasses.replace(run, plan=planned), 5)


def test_a_checkpoint_is_chosen_where_there_are_several(forge, ended_run):
    run = ended_run(events=FAILED)
    folder = forge.runs.folder(run.id)
    save(folder, 1_200)
    assert "resume-step" not in actions(forge, run)
    save(folder, 1_300)
    shown = actions(forge, run)
    assert shown.index('value="1300"') < shown.index('value="1200"')
    assert "deletes the later checkpoints" in shown

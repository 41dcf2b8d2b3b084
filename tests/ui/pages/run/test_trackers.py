"""The page of a run shows the commands for the logs of its trackers."""

from __future__ import annotations

import shlex

from ui.pages.run.live import RunFollower
from ui.pages.run.side_panel import tracker_commands


def test_the_command_names_the_folder_of_the_run(tmp_path):
    folder = tmp_path / "my home" / "trackers"
    (folder / "tensorboard").mkdir(parents=True)
    shown = str(tracker_commands(folder))
    assert "tensorboard --logdir" in shown
    assert shlex.quote(str(folder / "tensorboard")).replace("'", "&#39;") in shown
    assert "wandb" not in shown


def test_a_run_without_trackers_has_no_commands(tmp_path):
    assert str(tracker_commands(tmp_path / "absent")) == ""
    assert str(tracker_commands(None)) == ""


def test_the_page_of_a_run_has_them(forge, ended_run):
    run = ended_run()
    (forge.home.runs / run.id / "trackers" / "tensorboard").mkdir(parents=True)
    update = RunFollower(forge, run.id).update()
    assert "tensorboard --logdir" in update.parts["run-facts"]

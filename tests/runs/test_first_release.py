"""A run folder of the first release opens for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.states import RunState
from ui.pages.run.state import RunWatcher
from ui.pages.run.summary import progress_line

FIRST = Path(__file__).parent / "data" / "run-v1"


def test_a_run_of_the_first_release_is_listed_opened_and_drawn(tmp_path):
    home = Home(tmp_path)
    shutil.copytree(FIRST, home.runs / "20261121-041537-6699")
    forge = Forge(home)
    (view,) = forge.runs.views()
    assert view.state is RunState.FINISHED
    assert view.name == "captain · starter"
    assert (view.step, view.total_steps) == (53, 53)
    assert view.plan.max_length == 256
    assert view.ending["kind"] == "finished"
    watcher = RunWatcher(lambda after: forge.runs.events(view.id, after))
    watcher.poll()
    assert watcher.picture.step == 53
    assert progress_line(watcher.picture).startswith("step 53 of 53")
    assert "update 53" in forge.runs.log(view.id)

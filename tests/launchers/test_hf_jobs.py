"""Runs as Jobs of Hugging Face: a stand-in for the Hub, and its real client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError, RunError
from modelforge.forge import Forge
from modelforge.launchers import hf_jobs
from modelforge.launchers.launcher import UnreachableError, open_launcher
from modelforge.launchers.relay import Relay
from modelforge.runs.checkpoints import newest_valid
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.launch import Launch, Target, read_launch
from modelforge.runs.states import RunState, read_facts
from modelforge.runs.view import view_run
from tests.launchers.conftest import adapter, stand_in_python, until, whole
from tests.launchers.hub_stand_in import TOKEN, Api, Hub


@pytest.fixture(autouse=True)
def _is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub", str(stand_in_python(tmp_path / "python-there")))
    yield made
    made.close()


@pytest.fixture
def api(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The client, which every launcher of this process gets."""
    client = Api(endpoint=hub.endpoint, token=TOKEN)
    client.bucket = hub.bucket
    hub.bucket.mkdir(exist_ok=True)
    monkeypatch.setattr(hf_jobs, "HfApi", lambda: client)
    return client


@pytest.fixture
def target(quick_forge: Forge, api: Api) -> str:
    quick_forge.targets.add("hub", "hf-jobs:cpu-basic")
    assert quick_forge.targets.check("hub").problems == []
    return "hub"


@pytest.fixture
def hold(hub: Hub) -> Path:
    """A file; while it exists a run there waits at step 5."""
    path = hub.home / "hold"
    path.touch()
    return path


class Follower:
    """A relay in a thread of this process, where the stand-in is the client of the Hub."""

    def __init__(self, forge: Forge, folder: RunFolder) -> None:
        self.folder = folder
        launch = read_launch(folder.launch)
        relay = Relay(folder, forge.home, open_launcher(launch.target), launch)
        self.thread = threading.Thread(target=relay.work, daemon=True)
        self.thread.start()

    def ended(self) -> RunState:
        self.thread.join(180)
        assert not self.thread.is_alive(), read_launch(self.folder.launch)
        return read_facts(self.folder).state


def created(forge: Forge, recipe: dict[str, Any], target: str) -> RunFolder:
    """Create a run for a target, without the process that follows it."""
    run = forge.runs._launcher.prepare(Layer("body", recipe), on=target)
    return forge.runs._store.create(run)


def stepped(folder: RunFolder, step: int) -> None:
    until(lambda: folder.events.exists() and view_run(folder, RunState.RUNNING).step >= step,
          f"step {step} is done", 120)  # fmt: skip


def test_a_run_as_a_job_is_brought_home(quick_forge, target, recipe, hub):
    folder = created(quick_forge, recipe, target)
    assert Follower(quick_forge, folder).ended() is RunState.FINISHED
    assert adapter(folder) == whole(quick_forge, recipe)
    assert "the worker begins" in folder.log.read_text()
    assert not folder.checkpoints.exists()
    (spec,) = hub.specs
    assert spec["flavor"] == "cpu-basic"
    assert spec["timeoutSeconds"] == 24 * 3600
    assert spec["labels"]["modelforge"] == read_launch(folder.launch).job
    assert "secrets" not in spec
    # 100 s at 0.6 dollars a minute.
    assert read_launch(folder.launch).cost == "$1.00"


def test_a_stop_keeps_the_model(quick_forge, target, recipe, hold, hub):
    folder = created(quick_forge, recipe, target)
    follower = Follower(quick_forge, folder)
    stepped(folder, 2)
    folder.stop.write_text("keep")
    assert follower.ended() is RunState.STOPPED
    assert folder.has_adapter
    assert newest_valid(folder)[0].step >= 2


def test_a_killed_job_is_lost_with_its_checkpoints_and_continues_there(
    quick_forge, target, recipe, hold, hub
):
    folder = created(quick_forge, recipe, target)
    follower = Follower(quick_forge, folder)
    stepped(folder, 4)
    process = hub.jobs["job1"]["process"]
    process.kill()
    follower.ended()
    assert read_launch(folder.launch).what == "The job was killed: out of memory"
    assert newest_valid(folder)[0].step >= 2, "its disk is gone, but not its checkpoints"


def test_a_job_is_found_by_its_label(quick_forge, target, recipe, hub):
    folder = created(quick_forge, recipe, target)
    follower = Follower(quick_forge, folder)
    launch = until(lambda: (now := read_launch(folder.launch)).id and now, "it is submitted", 90)
    launcher = open_launcher(launch.target)
    assert launcher.find(launch) == launch.id
    assert follower.ended() is RunState.FINISHED
    assert launcher.find(launch) == launch.id, "also when it is over"


def test_a_cancelled_job_says_so(quick_forge, target, recipe, hold, hub):
    folder = created(quick_forge, recipe, target)
    follower = Follower(quick_forge, folder)
    stepped(folder, 2)
    launch = read_launch(folder.launch)
    open_launcher(launch.target).stop(launch, folder.id, "keep", kill=True)
    follower.ended()
    assert hub.jobs["job1"]["cancelled"]


def test_the_token_is_sent_to_the_job_only_where_asked(
    quick_forge, api, recipe, hub, monkeypatch, tmp_path
):
    monkeypatch.setattr(hf_jobs, "get_token", lambda: TOKEN)
    quick_forge.targets.add("hub", "hf-jobs:cpu-basic", options={"token": "yes"})
    assert quick_forge.targets.check("hub").problems == []
    folder = created(quick_forge, recipe, "hub")
    assert Follower(quick_forge, folder).ended() is RunState.FINISHED
    assert hub.specs[0]["secrets"] == {"HF_TOKEN": TOKEN}
    assert TOKEN not in str(hub.specs[0]["command"]) + str(hub.specs[0]["environment"])
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".whl"]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_the_hardware_of_a_flavor_is_planned_for(quick_forge, api):
    quick_forge.targets.add("gpu", "hf-jobs:a10g-small")
    found = quick_forge.targets.check("gpu")
    assert found.problems == []
    assert found.hardware.startswith("A10G, 22.4 GiB")
    (gpu,) = quick_forge.targets.get("gpu").machine.gpus
    assert gpu.compute_capability == (8, 6)


@pytest.mark.parametrize(
    ("status", "what"), [(401, "refuses the access"), (402, "asks for a payment")]
)
def test_what_the_hub_refuses_is_named(quick_forge, api, hub, status, what):
    hub.refuses = status
    quick_forge.targets.add("hub", "hf-jobs:cpu-basic")
    (problem,) = quick_forge.targets.check("hub").problems
    assert what in problem.what
    assert problem.remedy


def test_a_hub_that_is_down_is_waited_for(quick_forge, api, hub):
    hub.refuses = 503
    launcher = open_launcher(Target("hub", "hf-jobs", "cpu-basic"))
    with pytest.raises(UnreachableError):
        launcher._namespace()


def test_a_computer_that_is_kept_offline_says_so(quick_forge, api, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    quick_forge.targets.add("hub", "hf-jobs:cpu-basic")
    (problem,) = quick_forge.targets.check("hub").problems
    assert "HF_HUB_OFFLINE" in problem.what


def test_an_unknown_flavor_is_refused_with_the_known_ones(quick_forge, api):
    quick_forge.targets.add("hub", "hf-jobs:a10g-huge")
    (problem,) = quick_forge.targets.check("hub").problems
    assert "cpu-basic, a10g-small" in problem.remedy


def test_a_missing_login_is_named(quick_forge, hub, monkeypatch):
    monkeypatch.setattr(hf_jobs, "HfApi", lambda: HfApi(endpoint=hub.endpoint))
    quick_forge.targets.add("hub", "hf-jobs:cpu-basic")
    (problem,) = quick_forge.targets.check("hub").problems
    assert "hf auth login" in problem.remedy


@pytest.mark.parametrize(
    ("address", "options"), [("A10G!", {}), ("cpu-basic", {"token": "hf_abc"})]
)
def test_wrong_targets_are_refused(address, options):
    with pytest.raises(ConfigError) as refused:
        open_launcher(Target("hub", "hf-jobs", address, options=options))
    assert "hf_abc" not in str(refused.value)


def test_a_name_in_the_bucket_that_leads_out_is_refused(api, tmp_path):
    target = Target("hub", "hf-jobs", "cpu-basic")
    launcher = open_launcher(target)
    api.list_bucket_tree = lambda *_a, **_o: iter(
        [type("File", (), {"type": "file", "path": "r/shared/../../../evil"})()]
    )
    with pytest.raises(RunError, match="leads out of the run folder"):
        launcher.fetch(Launch(target), "r", tmp_path / "into", checkpoints=True)

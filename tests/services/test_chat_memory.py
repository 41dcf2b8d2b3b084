"""The memory of our own chat never blocks a run: its start ends the chat."""

from __future__ import annotations

import sys

import pytest

from modelforge.errors import BlockedError
from modelforge.forge import Forge
from modelforge.hardware.machine import Machine
from modelforge.hardware.nvidia import Gpu
from modelforge.paths import Home
from tests.services.test_runs import ACTORS, asked, until

CHAT_GIB, TOTAL_GIB = 2.0, 3.0


class PlayedGpu:
    """A GPU of 3 GiB, of which a loaded chat holds 2, other programs `other_gib`.

    `tells` is whether the driver tells which process uses how much memory.
    """

    def __init__(self, *, tells: bool, other_gib: float = 0.2) -> None:
        self.tells, self.other_gib = tells, other_gib
        self.forge: Forge | None = None

    def __call__(self, _root: object) -> Machine:
        chat = self.forge.chat._client.alive if self.forge else False
        own = CHAT_GIB if chat else 0.0
        used = own + self.other_gib
        gpu = Gpu(
            0,
            total_gib=TOTAL_GIB,
            free_gib=TOTAL_GIB - used,
            other_gib=self.other_gib if self.tells else used,
            own_gib=own if self.tells else 0.0,
            compute_capability=(8, 6),
            driver="580.1",
        )
        gib = 100.0
        return Machine("Linux", "3.11", "CPU", 2, gib, gib, gib, gib, [gpu], "", False)


@pytest.fixture
def opened(tmp_path):
    forges = []

    def open_with(gpu):
        def play(actor):
            return [sys.executable, str(ACTORS / f"{actor}.py")]

        forge = Forge(
            Home(tmp_path / "home"),
            worker=play("obeys"),
            chat_process=play("talks"),
            warm_worker=[sys.executable, "-c", ""],
            probe=gpu,
        )
        gpu.forge = forge
        forges.append(forge)
        return forge

    yield open_with
    for forge in forges:
        for view in forge.runs.views():
            forge.runs.stop(view.id)
            until(lambda: forge.runs.state(view.id).is_over, "the run is over")  # noqa: B023
        forge.close()


def talk(forge, model):
    list(forge.chat.ask(str(model), [{"role": "user", "content": "hello"}]))
    forge.machine.current(refresh=True)
    assert forge.chat._client.alive


@pytest.mark.parametrize("tells", [True, False])
def test_a_run_starts_where_only_our_chat_uses_the_memory(opened, model, data, tells):
    forge = opened(PlayedGpu(tells=tells))
    talk(forge, model)
    checked = forge.preflight.check(asked(model, data))
    assert checked.ready, checked.report.findings
    assert "vram-held" not in [finding.code for finding in checked.report.findings]
    assert forge.chat._client.alive, "looking does not end the chat"
    assert forge.runs.start(asked(model, data))
    assert not forge.chat._client.alive


def test_with_unknown_owners_the_chat_ends_before_memory_is_judged(opened, model, data):
    forge = opened(PlayedGpu(tells=False, other_gib=0.9))
    talk(forge, model)
    forge.machine._probe.other_gib = 2.5
    with pytest.raises(BlockedError) as blocked:
        forge.runs.start(asked(model, data))
    (finding,) = [one for one in blocked.value.findings if one.code == "memory-base"]
    assert "0.5 GiB free" in finding.what
    assert "2.5 GiB" in finding.remedy
    assert not forge.chat._client.alive


def test_memory_of_other_programs_blocks_with_their_amount(opened, model, data):
    forge = opened(PlayedGpu(tells=True, other_gib=0.9))
    talk(forge, model)
    forge.machine._probe.other_gib = 2.0
    forge.machine.current(refresh=True)
    (finding,) = [
        one
        for one in forge.preflight.check(asked(model, data)).report.findings
        if one.code == "memory-base"
    ]
    assert "2.0 GiB" in finding.remedy

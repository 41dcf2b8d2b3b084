"""The side panel: disk space, what an export waits for, and where the result runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.models.architecture import ModelInfo
from modelforge.runs.exports import ExportRequest
from modelforge.services.exports import Prediction
from modelforge.units import GIB, MIB
from tests.runs.homes import put_run
from tests.ui.pages.export.views import export
from ui.pages.export import plan
from ui.pages.export.choice import Predicted

NEEDS = Prediction("support-desk-Q4_K_M.gguf", "cpu", 2 * GIB, 3 * GIB, 4 * GIB, 240.0, 10 * GIB)


@pytest.fixture
def chosen(forge):
    run = forge.runs.view(put_run(forge.home.root, 1, name="support desk, <1>").id)
    return plan.Chosen(ExportRequest(run.id, "gguf"), run, Predicted(NEEDS))


def test_disk_space_counts_the_export_in_progress(forge, chosen):
    machine = replace(forge.machine.current(), disk_total_gib=100.0)
    drawn = plan.plan(chosen, [], machine)
    assert "3.0 GiB of 10 GiB free" in drawn
    assert "fits" in drawn
    assert "about 4 min" in drawn
    assert "support-desk-Q4_K_M.gguf" in drawn
    other = export("running", prediction=replace(NEEDS, disk_bytes=8 * GIB))
    both = plan.plan(chosen, [other], machine)
    assert "export now running" in both
    assert "too little space" in both


def test_what_an_export_waits_for(forge):
    assert plan.waits_text(forge, [export()]) == ""
    running = export("running", seconds_left=200.0)
    assert plan.waits_text(forge, [running]) == (
        "It starts when the export in progress has ended, in about 3 min."
    )
    assert "exports before it have ended, in about 4 min" in plan.waits_text(
        forge, [export("queued"), running]
    )


def test_the_command_names_everything_that_was_chosen(forge, chosen):
    hub = ExportRequest("a", "hub", "q8_0", "gguf", "me/it", False, (("b", 0.5),), 2.0, "ties")
    command = plan.export_command(forge, hub)
    assert command.startswith("modelforge export a --home ")
    for part in ("--repository me/it", "--public", "--quantization q8_0", "--adapter b=0.5"):
        assert part in command
    merged = plan.export_command(forge, ExportRequest("a", "merged", precision="float32"))
    assert merged.endswith("--format merged --precision float32")
    assert "precision" not in command


def test_the_cache_of_a_context_has_keys_and_values_of_every_layer():
    llama = ModelInfo("x", "x", None, 8, 16.0, True, True, layers=32, kv_heads=8, head_dim=128)
    assert plan.cache_bytes(llama) == 512 * MIB
    assert plan.cache_bytes(replace(llama, context=2048)) == 256 * MIB
    assert plan.cache_bytes(replace(llama, kv_heads=None)) is None


@pytest.mark.parametrize(("gib", "label"), [(5.9, "fits"), (7.0, "tight"), (7.8, "too small")])
def test_three_quarters_of_the_memory_fit(gib, label):
    assert plan._fit(int(gib * GIB), 8.0)[0] == label

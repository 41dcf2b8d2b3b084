"""A checkpoint is trusted only when every byte of it is as it was saved."""

from __future__ import annotations

import json
import os
import random

import pytest

from modelforge.runs import checkpoints
from modelforge.runs.checkpoints import MANIFEST, Damage, list_checkpoints, newest_valid, verify
from modelforge.runs.layout import RunFolder

FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")
INNER = "epoch/rng_state.pth"


def saved(run, step, stage=None):
    folder = run.checkpoints / f"checkpoint-{step}"
    (folder / "epoch").mkdir(parents=True)
    for number, name in enumerate((*FILES, INNER)):
        (folder / name).write_bytes(bytes([number, step % 256]) * 40)
    checkpoints.write_manifest(folder, step=step, stage=stage)
    return folder


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "a-run")
    for step in (5, 10, 15):
        saved(run, step)
    return run


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be synced there")
def test_every_file_and_folder_is_on_the_disk_before_a_checkpoint_counts(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def watch(handle):
        synced.append(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    folder = saved(RunFolder(tmp_path / "another"), 5)
    parts = (*FILES, INNER, "epoch")
    assert {(folder / name).stat().st_ino for name in parts} <= set(synced)
    assert synced[-1] == folder.stat().st_ino


def truncate(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def zero(path, _chance):
    path.write_bytes(bytes(path.stat().st_size))


def delete(path, _chance):
    path.unlink()


DAMAGES = {"truncate": truncate, "flip": flip, "zero": zero, "delete": delete}
EVERY = (*FILES, INNER, MANIFEST)


# 4 ways × 6 files × (the newest, the newest and the one before, all) = 72 cases.
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", EVERY)
@pytest.mark.parametrize("hit", [(15,), (15, 10), (15, 10, 5)])
def test_the_newest_checkpoint_that_is_whole_is_chosen_and_others_are_named(run, how, file, hit):
    chance = random.Random(f"{how} {file} {hit}")
    for step in hit:
        DAMAGES[how](run.checkpoints / f"checkpoint-{step}" / file, chance)
    found, damaged = newest_valid(run)
    left = [step for step in (15, 10, 5) if step not in hit]
    assert (found.step if found else None) == (left[0] if left else None)
    assert sorted(each.name for each in damaged) == sorted(f"checkpoint-{step}" for step in hit)
    for each in damaged:
        # A manifest with a flipped bit may still be one, but then it does not fit its files.
        assert each.file == file or file == MANIFEST
        assert each.file in each.why


def test_a_whole_checkpoint_says_its_step_stage_and_size(tmp_path):
    run = RunFolder(tmp_path)
    saved(run, 7, stage=2)
    (found,) = list_checkpoints(run)
    assert (found.name, found.step, found.stage, found.size) == ("checkpoint-7", 7, 2, 5 * 80)
    assert verify(found.path) is None


def test_the_second_stage_is_newer_than_the_first_whatever_its_updates(tmp_path):
    run = RunFolder(tmp_path)
    saved(run, 40, stage=1)
    saved(run, 3, stage=2)
    assert newest_valid(run)[0].step == 3


def test_hashes_can_be_left_out_where_only_an_offer_is_made(run):
    zero(run.checkpoints / "checkpoint-15" / FILES[0], None)
    assert newest_valid(run, hashes=False)[0].step == 15
    assert newest_valid(run)[0].step == 10


def test_folders_of_others_are_not_used(run):
    (run.checkpoints / "checkpoint-99").mkdir()
    (run.checkpoints / "checkpoint-99" / FILES[0]).write_bytes(b"anything")
    (run.checkpoints / "else").mkdir()
    (run.checkpoints / ".staged-x").mkdir()
    found, damaged = newest_valid(run)
    assert found.step == 15
    assert damaged == [Damage("checkpoint-99", MANIFEST, "manifest")]


def test_a_file_that_was_put_there_later_is_damage(run):
    (run.checkpoints / "checkpoint-15" / "pytorch_model.bin").write_bytes(b"a pickle")
    assert verify(run.checkpoints / "checkpoint-15").reason == "unknown"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_no_file(run):
    path = run.checkpoints / "checkpoint-15" / FILES[0]
    elsewhere = run.path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert verify(path.parent) == Damage("checkpoint-15", FILES[0], "missing")


@pytest.mark.parametrize("name", ["../config.json", "/etc/hostname", "a/../../b", "..\\b", "C:/b"])
def test_a_manifest_leads_nowhere_else(run, name):
    folder = run.checkpoints / "checkpoint-15"
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": 0, "sha256": ""}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert verify(folder) == Damage("checkpoint-15", name, "path")


@pytest.mark.parametrize(
    "manifest",
    [
        {"format": 2, "step": 15, "stage": None, "files": {}},
        {"format": 1, "step": 14, "stage": None, "files": {}},
        {"format": 1, "step": 15, "stage": None, "files": []},
        {"format": 1, "step": 15, "stage": None, "files": {FILES[0]: 80}},
        {"format": 1, "step": "15", "stage": None, "files": {}},
        [],
    ],
)
def test_what_is_no_manifest_of_this_checkpoint_is_none(run, manifest):
    (run.checkpoints / "checkpoint-15" / MANIFEST).write_text(json.dumps(manifest))
    assert newest_valid(run)[0].step == 10


def test_a_copied_run_folder_keeps_its_checkpoints(run, tmp_path):
    run.path.rename(tmp_path / "moved")
    assert newest_valid(RunFolder(tmp_path / "moved"))[0].step == 15


def steps(run):
    return sorted(each.step for each in list_checkpoints(run))


def test_pruning_leaves_the_newest_and_the_best(run):
    checkpoints.prune(run, 2, newest=15, best=5)
    assert steps(run) == [5, 15]
    checkpoints.prune(run, 1, newest=15, best=5)
    assert steps(run) == [5, 15]
    checkpoints.prune(run, 1, newest=15, best=15)
    assert steps(run) == [15]
    assert list(run.checkpoints.iterdir()) == [run.checkpoints / "checkpoint-15"]


def test_pruning_takes_what_a_resumed_run_has_passed_over_first(run):
    saved(run, 8)
    checkpoints.prune(run, 3, newest=8, best=None)
    assert steps(run) == [5, 8, 15]
    checkpoints.prune(run, 2, newest=8, best=None)
    assert steps(run) == [5, 8]


def test_a_checkpoint_takes_the_place_of_one_with_the_same_number(run):
    staged = run.checkpoints / ".staged-1" / "checkpoint-15"
    staged.parent.mkdir()
    saved(RunFolder(run.path / "other"), 15).rename(staged)
    (staged / FILES[0]).write_bytes(b"new")
    checkpoints.write_manifest(staged, step=15, stage=None)
    checkpoints.move_into_place(staged, run.checkpoints / "checkpoint-15")
    assert (run.checkpoints / "checkpoint-15" / FILES[0]).read_bytes() == b"new"
    assert steps(run) == [5, 10, 15]


def test_what_a_kill_has_left_is_swept(run):
    for name in (".staged-1/checkpoint-20", ".gone-checkpoint-1-ab"):
        (run.checkpoints / name).mkdir(parents=True)
    checkpoints.sweep(run)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        *("checkpoint-10", "checkpoint-15", "checkpoint-5")
    ]
    checkpoints.sweep(RunFolder(run.path / "nothing"))

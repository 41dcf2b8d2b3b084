"""Pushing an export: one commit, nothing sent twice, errors in words, private by default."""

from __future__ import annotations

import os

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _xet_progress_reporting, close_session

from modelforge.errors import RunError
from modelforge.export import hub
from modelforge.runs.exports import ExportFolder
from modelforge.runs.jobs import StepWriter
from tests.export.hub_server import TOKEN, UploadHub

pytestmark = pytest.mark.torch

NAME = "anna/support-desk"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n# A model\n",
    "config.json": b"{}",
    "model-1.safetensors": os.urandom(300_000),
    "model-2.safetensors": os.urandom(200_000),
}


@pytest.fixture
def server(monkeypatch):
    made = UploadHub()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # The storage behind hf_xet is a service of its own, for which there is no stand-in.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    close_session()  # it may have been made offline
    yield made
    made.close()
    close_session()


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "files"
    target.mkdir()
    for name, content in FILES.items():
        (target / name).write_bytes(content)
    return target


@pytest.fixture
def export(tmp_path):
    made = ExportFolder(tmp_path / "export")
    made.path.mkdir()
    return made


@pytest.fixture
def push(server, folder, export):
    def push(**options):
        return hub.push(folder, NAME, StepWriter(export.events), **options)

    return push


def test_a_new_repository_is_private_and_has_all_files_in_one_commit(server, push, export):
    assert push() == f"{server.url}/{NAME}"
    assert server.files[NAME] == FILES
    assert server.private[NAME] is True
    assert server.commits[NAME] == [sorted(FILES)]
    shares = {step.step: step.share for step in export.steps()}
    assert shares["upload"] == 1.0


def test_a_repository_is_public_if_asked_for(server, push):
    push(private=False)
    assert server.private[NAME] is False


def test_an_existing_private_repository_is_added_to(server, push):
    server.add(NAME, private=True, **{"other.txt": b"kept"})
    push()
    assert server.files[NAME] == FILES | {"other.txt": b"kept"}


def test_nothing_private_gets_into_an_existing_public_repository(server, push):
    server.add(NAME, private=False)
    with pytest.raises(RunError, match="Everybody can see"):
        push()
    assert server.files[NAME] == {}
    push(private=False)
    assert server.files[NAME] == FILES


def test_a_push_that_broke_is_continued_without_sending_a_file_twice(server, push):
    server.break_after = 1
    with pytest.raises(RunError, match="may not write"):
        push()
    assert server.files[NAME] == {}
    assert len(server.uploads) == 1
    server.break_after = None
    push()
    assert server.files[NAME] == FILES
    assert len(server.uploads) == len(set(server.uploads)) == 2


def test_the_same_files_are_pushed_again_without_a_commit(server, push):
    push()
    push()
    assert len(server.commits[NAME]) == 1
    assert len(server.uploads) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token"),
        (403, "may not write to anna/support-desk"),
        (404, "no user or organization"),
        (413, "too large"),
    ],
)
def test_a_refusal_is_explained(server, push, status, words):
    server.statuses["/api/repos/create"] = status
    with pytest.raises(RunError, match=words) as caught:
        push()
    (problem,) = caught.value.problems
    assert problem.remedy
    assert TOKEN not in str(problem)


def test_a_commit_of_someone_else_in_between_is_explained(server, push):
    server.add(NAME)
    server.statuses[f"/api/models/{NAME}/commit"] = 409
    with pytest.raises(RunError, match="changed by someone else"):
        push()


def test_a_wrong_token_is_explained(push, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(RunError, match="does not accept the token"):
        push()


def test_without_a_token_nothing_is_sent(server, push, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RunError, match="no token"):
        push()
    assert not server.files


def test_offline_is_explained(push, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="HF_HUB_OFFLINE"):
        push()


def test_a_hub_that_cannot_be_reached_is_explained(server, push, monkeypatch):
    server.close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    with pytest.raises(RunError, match="cannot be reached"):
        push()


def test_the_token_is_written_nowhere(push, export, folder):
    push()
    written = [path for root in (export.path, folder) for path in root.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_the_client_has_the_progress_of_hf_xet_that_is_replaced():
    # It is not part of the client's documented interface.
    reporter = _xet_progress_reporting.XetUploadProgressReporter
    assert {"update_progress", "close"} <= set(dir(reporter))

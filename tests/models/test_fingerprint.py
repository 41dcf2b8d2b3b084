"""The hash of a model sees each change of its files, and reads them once."""

from __future__ import annotations

import os

from modelforge.models import fingerprint as module
from modelforge.models.fingerprint import fingerprint
from tests.services.exports.conftest import put_model


def test_a_fingerprint_sees_every_tensor(tmp_path):
    first, second = put_model(tmp_path / "a"), put_model(tmp_path / "b")
    assert fingerprint(first) == fingerprint(second) != ""
    (second / "README.md").write_text("notes", "utf-8")
    assert fingerprint(first) == fingerprint(second)
    (second / "model.safetensors").write_bytes(b"not safetensors")
    assert fingerprint(second) == ""
    assert fingerprint(tmp_path / "absent") == ""


def test_files_are_read_again_only_when_they_have_changed(tmp_path, monkeypatch):
    folder, opened = put_model(tmp_path / "a"), []
    monkeypatch.setattr(
        module, "open_regular", lambda path: opened.append(path.name) or path.open("rb")
    )
    before = fingerprint(folder)
    assert opened == ["config.json", "model.safetensors"]
    assert fingerprint(folder) == before
    assert len(opened) == 2
    weights = folder / "model.safetensors"
    raw, status = bytearray(weights.read_bytes()), weights.stat()
    raw[-1] ^= 1
    weights.write_bytes(raw)
    # As a copy that keeps the time does.
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(folder) != before
    assert len(opened) == 4

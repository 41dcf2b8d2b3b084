"""What the worker does to its own process before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modelforge.train import environment as of_process
from modelforge.train.environment import go_offline_for_local_models, set_visible_gpu
from modelforge.train.stop import Stop, StopRequested


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Undo what is done to the environment."""
    names = ("CUDA_VISIBLE_DEVICES", "MODELFORGE_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
    for name in (*names, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_one_gpu_stays_visible():
    set_visible_gpu("cuda", 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_on_the_cpu_no_gpu_is_visible():
    set_visible_gpu("cpu", 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.parametrize(
    ("mask", "index", "left"), [("3,1", 1, "1"), ("3,1", 0, "3"), ("1,0", 1, "0"), ("3", 1, "-1")]
)
def test_existing_cuda_visible_devices_is_respected(mask, index, left):
    os.environ["CUDA_VISIBLE_DEVICES"] = mask
    set_visible_gpu("cuda", index)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_a_model_folder_needs_no_hub_and_a_hub_model_does(tmp_path):
    go_offline_for_local_models("somebody/some-model")
    assert "HF_HUB_OFFLINE" not in os.environ
    go_offline_for_local_models(str(tmp_path))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_worker_module_does_not_import_torch():
    code = (
        "import sys, modelforge.train.worker; print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_stop_file_says_whether_to_keep(tmp_path):
    stop = Stop(tmp_path / "stop")
    stop.check()
    assert stop.mode is None
    (tmp_path / "stop").write_text("discard\n")
    assert stop.mode == "discard"
    (tmp_path / "stop").write_text("")
    assert stop.mode == "keep"
    with pytest.raises(StopRequested):
        stop.check()


def test_unsloth_telemetry_is_off_and_its_cache_is_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path))
    call = "import os; from modelforge.train import environment; environment.configure_process(); "
    call += "print(*(os.environ[f'UNSLOTH_{name}'] for name in "
    call += "('DISABLE_STATISTICS', 'AUTO_INSTALL', 'COMPILE_LOCATION')))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", str(tmp_path / "cache" / "unsloth_made")]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_returned_to_the_system():
    code = """
import ctypes, psutil
from modelforge.train.environment import MMAP_THRESHOLD_BYTES as LIMIT, return_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
held = lambda: psutil.Process().memory_info().rss
assert return_freed_memory()
libc.free(libc.malloc(30 * LIMIT))  # after which glibc by itself would keep what is smaller
before = held()
blocks = [libc.malloc(2 * LIMIT) for _ in range(64)]
for block in blocks:
    ctypes.memset(block, 1, 2 * LIMIT)
assert held() - before > 100 * LIMIT
for block in blocks[:-1]:
    libc.free(block)
assert held() - before < 10 * LIMIT
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("system", "release", "users", "expected"),
    [
        ("Linux", "6.8.0", {}, True),
        ("Linux", "6.8.0", {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, False),
        ("Linux", "6.8.0", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, True),
        ("Linux", "5.15.1-microsoft-standard-WSL2", {}, False),
        ("Windows", "11", {}, False),
    ],
)
def test_gpu_memory_grows_in_place_on_native_linux_unless_the_user_says_otherwise(
    monkeypatch, system, release, users, expected
):
    kept = dict(os.environ)
    monkeypatch.setattr(of_process.platform, "system", lambda: system)
    monkeypatch.setattr(of_process.platform, "release", lambda: release)
    try:
        for name in of_process.ALLOCATOR:
            os.environ.pop(name, None)
        os.environ.update(users, CUDA_DEVICE_ORDER="FASTEST_FIRST")
        of_process.configure_process()
        assert of_process.has_expandable_segments() is expected
        assert {name: os.environ[name] for name in users} == users
        assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    finally:
        os.environ.clear()
        os.environ.update(kept)

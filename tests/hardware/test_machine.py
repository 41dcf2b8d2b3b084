import json
import os
import platform
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelforge.hardware.machine import (
    Machine,
    bf16_flags,
    choose_profile,
    probe_machine,
)
from modelforge.hardware.nvidia import Gpu, NvmlClient

GIB = 1024**3
not_on_an_apple_gpu = pytest.mark.skipif(
    sys.platform == "darwin" and platform.machine() == "arm64",
    reason="an Apple GPU has a note of its own",
)


class NVMLError(Exception):
    """What the driver's library raises; `value` is NVML's own number."""

    def __init__(self, value, text):
        super().__init__(text)
        self.value = value


NOT_SUPPORTED = NVMLError(3, "Not Supported")


@dataclass
class Card:
    """A card of the stand-in driver. A fact that is an exception is raised; `hangs` names one."""

    name: object = "NVIDIA GeForce RTX 4070"
    uuid: str = "GPU-aaaa-1111"
    total: object = 12 * GIB
    used: int = 1 * GIB
    capability: object = (8, 9)
    processes: object = field(default_factory=list)
    hangs: str = ""


class Driver:
    """A stand-in for the pynvml module, with the functions that are used of it."""

    NVMLError = NVMLError

    def __init__(self, *cards, refuses=None, version2=True):
        self.cards = cards
        self.refuses = refuses
        self.opened = 0
        self.release = threading.Event()
        self.nvmlInit = self._open
        self.nvmlShutdown = self._close
        self.nvmlDeviceGetCount = lambda: len(cards)
        self.nvmlSystemGetDriverVersion = lambda: b"580.65.06"
        self.nvmlDeviceGetHandleByIndex = self._handle
        self.nvmlDeviceGetName = lambda card: self._say(card, "name")
        self.nvmlDeviceGetUUID = lambda card: self._say(card, "uuid")
        self.nvmlDeviceGetCudaComputeCapability = lambda card: self._say(card, "capability")
        self.nvmlDeviceGetComputeRunningProcesses = lambda card: self._say(card, "processes")
        self.nvmlDeviceGetMemoryInfo = self._memory
        self._version2 = version2
        if version2:
            self.nvmlMemory_v2 = 2

    def _open(self):
        if self.refuses:
            raise self.refuses
        self.opened += 1

    def _close(self):
        self.opened -= 1

    def _handle(self, number):
        if isinstance(self.cards[number], Exception):
            raise self.cards[number]
        return self.cards[number]

    def _say(self, card, fact):
        if card.hangs == fact:
            self.release.wait(30)
        value = getattr(card, fact)
        if isinstance(value, Exception):
            raise value
        return value

    def _memory(self, card, version=1):
        total = self._say(card, "total")
        # As in NVML: version 1 counts what the driver reserves as used.
        used = card.used if version == 2 else card.used + GIB // 2
        return SimpleNamespace(total=total, used=used, free=total - card.used - GIB // 2)


@pytest.fixture
def look(tmp_path):
    """What `probe` makes of a computer with this driver."""
    drivers = []

    def see(driver, *, visible=None, timeout_s=2.0):
        drivers.append(driver)
        environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return probe_machine(tmp_path, timeout_s, nvidia=NvmlClient(driver), environ=environ)

    yield see
    for driver in drivers:
        driver.release.set()


def test_a_card_is_described(look):
    driver = Driver(Card())
    machine = look(driver)
    assert machine.gpus == [
        Gpu(
            index=0,
            name="NVIDIA GeForce RTX 4070",
            total_gib=12,
            free_gib=10.5,
            other_gib=1,
            compute_capability=(8, 9),
            driver="580.65.06",
            uuid="GPU-aaaa-1111",
            own_gib=0,
        )
    ]
    assert (machine.device, machine.practice_mode, machine.gpu_note) == ("cuda", False, "")
    assert driver.opened == 0, "the driver is let go of again"
    json.dumps(asdict(machine))


def test_memory_of_our_own_processes_is_not_counted_as_held_by_others(look):
    ours = SimpleNamespace(pid=os.getpid(), usedGpuMemory=3 * GIB)
    theirs = SimpleNamespace(pid=1, usedGpuMemory=2 * GIB)
    untold = SimpleNamespace(pid=2, usedGpuMemory=None)
    card = Card(used=5 * GIB, processes=[ours, theirs, untold])
    machine = look(Driver(card))
    assert (machine.gpus[0].other_gib, machine.gpus[0].own_gib) == (2, 3)
    assert machine.when_children_end().gpus[0].free_gib == machine.gpus[0].free_gib + 3


def test_a_driver_of_another_version_leaves_our_memory_unknown(look):
    """pynvml raises it for drivers before 510, and it is no NVMLError."""
    import pynvml

    card = Card(processes=pynvml.NVMLLibraryMismatchError("Unversioned function called"))
    (gpu,) = look(Driver(card)).gpus
    assert (gpu.total_gib, gpu.own_gib) == (12, 0)


def test_an_old_driver_without_the_second_memory_question_is_understood(look):
    card = look(Driver(Card(), version2=False)).gpus[0]
    assert (card.total_gib, card.free_gib, card.other_gib) == (12, 10.5, 1.5)


def test_several_cards_are_listed_in_their_order(look):
    old = Card(name=b"Tesla P40", uuid="GPU-bbbb", capability=(6, 1), total=24 * GIB)
    machine = look(Driver(Card(), old))
    assert [(gpu.index, gpu.name) for gpu in machine.gpus] == [
        (0, "NVIDIA GeForce RTX 4070"),
        (1, "Tesla P40"),
    ]
    assert machine.gpus[1].compute_capability == (6, 1)


@not_on_an_apple_gpu
@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("0,1,2", ["A", "B", "C"]),
        ("2,0", ["C", "A"]),
        ("1", ["B"]),
        ("GPU-b", ["B"]),
        ("GPU-c,0", ["C", "A"]),
        ("0,9,1", ["A"]),
        ("0, 1", ["A", "B"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-zzz", []),
        ("MIG-1", []),
    ],
)
def test_hidden_cards_are_not_listed(look, visible, names):
    driver = Driver(*(Card(name=name, uuid=f"GPU-{name.lower()}") for name in "ABC"))
    machine = look(driver, visible=visible)
    assert [gpu.name for gpu in machine.gpus] == names
    assert [gpu.index for gpu in machine.gpus] == list(range(len(names)))
    if not names:
        assert f"CUDA_VISIBLE_DEVICES='{visible}'" in machine.gpu_note
        assert machine.practice_mode


def test_a_card_that_hangs_hides_no_other_and_costs_no_more_than_the_limit(look):
    driver = Driver(Card(name="A"), Card(name="B", hangs="capability"), Card(name="C"))
    began = time.monotonic()
    machine = look(driver, timeout_s=0.5)
    assert time.monotonic() - began < 1.5
    assert [gpu.name for gpu in machine.gpus] == ["A", "B", "C"]
    assert machine.gpus[1].compute_capability is None
    assert machine.gpus[1].total_gib is None
    assert machine.gpus[2].total_gib == 12
    assert machine.ram_total_gib


@not_on_an_apple_gpu
def test_a_driver_that_hangs_is_reported_and_the_rest_is_known(look):
    driver = Driver(Card())
    driver.nvmlInit = lambda: driver.release.wait(30)
    machine = look(driver, timeout_s=0.3)
    assert machine.gpus == []
    assert "did not answer in time" in machine.gpu_note
    assert machine.practice_mode
    assert machine.ram_total_gib
    assert machine.disk_free_gib


@pytest.mark.parametrize("fact", ["name", "total", "capability", "processes"])
def test_a_card_that_does_not_say_one_thing_still_says_the_others(look, fact):
    card = look(Driver(Card(**{fact: NOT_SUPPORTED}))).gpus[0]
    assert card.name == ("NVIDIA GPU" if fact == "name" else "NVIDIA GeForce RTX 4070")
    assert card.total_gib == (None if fact == "total" else 12)
    assert card.free_gib == (None if fact == "total" else 10.5)
    assert card.other_gib == (None if fact == "total" else 1)
    assert card.compute_capability == (None if fact == "capability" else (8, 9))


def test_a_card_that_fell_off_the_bus_hides_no_other(look):
    machine = look(Driver(NVMLError(15, "GPU is lost"), Card(name="B")))
    assert [gpu.name for gpu in machine.gpus] == ["B"]


@not_on_an_apple_gpu
@pytest.mark.parametrize(
    ("refuses", "says"),
    [
        (NVMLError(12, "NVML Shared Library Not Found"), "No NVIDIA GPU was found."),
        (NVMLError(9, "Driver Not Loaded"), "installed but not running. Restart"),
        (
            NVMLError(18, "Driver/library version mismatch"),
            "was updated while it was running. Restart",
        ),
        (NVMLError(999, "Unknown Error"), "The NVIDIA driver reports: Unknown Error."),
    ],
)
def test_no_gpu_means_practice_mode_and_the_reason_is_reported(look, refuses, says):
    machine = look(Driver(refuses=refuses))
    assert machine.gpus == []
    assert says in machine.gpu_note
    assert machine.practice_mode
    assert machine.device == "cpu"


@not_on_an_apple_gpu
def test_a_driver_without_cards_is_distinguished_from_no_driver(look):
    assert look(Driver()).gpu_note == "The NVIDIA driver is installed, but it finds no GPU."


def test_this_computer_is_described_with_the_real_library(tmp_path):
    machine = probe_machine(tmp_path / "not" / "made" / "yet")
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.system
    assert machine.cpu
    assert machine.cores
    assert machine.ram_total_gib > machine.ram_free_gib > 0
    assert machine.disk_total_gib > machine.disk_free_gib > 0
    assert machine.gpus or machine.gpu_note
    assert not (tmp_path / "not").exists()


def test_a_processor_says_whether_it_multiplies_in_bf16(monkeypatch):
    def flags(text):
        bf16_flags.cache_clear()
        monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: text)
        return bf16_flags()

    assert flags("model name : x\nflags : fpu avx512_bf16 amx_bf16\n") == (
        "avx512_bf16",
        "amx_bf16",
    )
    assert flags("flags : fpu avx512f avx512_bf16x\n") == ()
    assert flags("flags : fpu avx512bw\n") == ("avx512bw",)
    assert flags("") == ()
    bf16_flags.cache_clear()
    assert replace(computer(), cpu_flags=("avx512_bf16",)).fast_bf16
    assert not computer().fast_bf16
    linux, windows = (replace(computer(), system=name) for name in ("Linux 6", "Windows 11"))
    assert linux.slow_bf16
    assert linux.has_no_bf16
    assert not replace(linux, cpu_flags=("avx512bw",)).has_no_bf16
    assert replace(linux, cpu_flags=("avx512bw",)).slow_bf16
    assert not windows.slow_bf16
    assert not windows.has_no_bf16


def computer(*vram, ram=32.0, apple=False):
    """A computer with cards of this many GiB."""
    gpus = [
        Gpu(number, f"Card {number}", gib, gib, 0.0, (8, 6), "580")
        for number, gib in enumerate(vram)
    ]
    return Machine("Linux", "3.11.7", "CPU", 8, ram, ram, 100.0, 200.0, gpus, "", apple)


@pytest.mark.parametrize(
    ("vram", "ram", "profile", "reason"),
    [
        (4.0, 32.0, "low_end", "4.0 GiB of GPU memory and 32.0 GiB of RAM: low end."),
        (7.19, 64.0, "low_end", "7.19 GiB of GPU memory and 64.0 GiB of RAM: low end."),
        (7.2, 15.2, "mid_range", "7.2 GiB of GPU memory and 15.2 GiB of RAM: mid range."),
        (8.0, 31.2, "mid_range", "8.0 GiB of GPU memory and 31.2 GiB of RAM: mid range."),
        (
            8.0,
            15.19,
            "low_end",
            (
                "8.0 GiB of GPU memory but only 15.19 GiB of RAM, "
                "and mid range needs 15.2 GiB: low end."
            ),
        ),
        (15.19, 32.0, "mid_range", "15.19 GiB of GPU memory and 32.0 GiB of RAM: mid range."),
        (15.2, 15.2, "high_end", "15.2 GiB of GPU memory and 15.2 GiB of RAM: high end."),
        (
            24.0,
            12.0,
            "mid_range",
            (
                "24.0 GiB of GPU memory but only 12.0 GiB of RAM, "
                "and high end needs 15.2 GiB: mid range."
            ),
        ),
        (6.0, 8.0, "low_end", "6.0 GiB of GPU memory and 8.0 GiB of RAM: low end."),
        (
            8.0,
            None,
            "low_end",
            "8.0 GiB of GPU memory but unknown RAM, and mid range needs 15.2 GiB: low end.",
        ),
        (4.0, None, "low_end", "4.0 GiB of GPU memory: low end."),
    ],
)
def test_the_card_and_the_ram_choose_the_profile(vram, ram, profile, reason):
    assert choose_profile(computer(vram, ram=ram)) == (profile, reason)


def test_the_chosen_card_counts_and_an_unknown_one_means_the_first():
    machine = computer(6.0, 24.0)
    assert choose_profile(machine)[0] == "low_end"
    assert choose_profile(machine, 1)[0] == "high_end"
    assert choose_profile(machine, 7)[0] == "low_end"


def test_a_card_whose_memory_is_unknown_is_treated_with_care():
    profile, reason = choose_profile(computer(None))
    assert profile == "low_end"
    assert reason == "The memory of Card 0 is unknown: low end."


def test_without_a_card_it_is_practice_mode():
    assert choose_profile(computer()) == (
        "low_end",
        "No NVIDIA GPU: low end with short runs of small models on the CPU.",
    )
    apple = computer(apple=True)
    assert "on the Apple GPU" in choose_profile(apple)[1]
    assert (apple.device, apple.practice_mode) == ("mps", True)

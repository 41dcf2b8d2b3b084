"""Ceilings of the GPU: training pauses between updates while the card is too hot or draws more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pynvml
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modelforge.config.schema.runtime import Hardware
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop

# How far below its ceiling a card has to come, and for how long a pause lasts at least: without
# both it would pause and go on with every update.
COOLER_C = 5.0
LESS_POWER = 0.95
SHORTEST_S = 3.0
LOOK_S = 0.5
# How often a long pause is told anew.
TELL_S = 15.0


@dataclass(frozen=True)
class GpuLimit:
    """One bound: what it is called, in which unit, and how it is measured (None: unknown)."""

    name: str
    unit: str
    bound: float
    goes_on_at: float
    measure: Callable[[], float | None]

    def over(self, *, pausing: bool) -> float | None:
        """Return the measured value while it is a reason to pause, else None."""
        value = self.measure()
        if value is None or value <= (self.goes_on_at if pausing else self.bound):
            return None
        return value


@dataclass(frozen=True)
class GpuSensors:
    """What the driver says of the card that trains: °C and W, None where it says nothing."""

    temperature: Callable[[], float | None]
    power: Callable[[], float | None]


class GpuLimitCallback(TrainerCallback):
    """Pauses before an update while a ceiling is passed, and listens to stop meanwhile.

    `went_on` is called after a pause, so that clocks can leave it out.
    """

    def __init__(
        self,
        ceilings: list[GpuLimit],
        log: EventLog,
        stop: Stop,
        resume_clock: Callable[[TrainerState], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ceilings = list(ceilings)
        self._log = log
        self._stop = stop
        self._went_on = resume_clock
        self._sleep = sleep

    def on_train_begin(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        **_more: object,
    ) -> None:
        """Tell of ceilings that cannot be kept, since nothing can be measured."""
        for ceiling in [one for one in self._ceilings if one.measure() is None]:
            self._ceilings.remove(ceiling)
            what = f"The driver does not tell the {ceiling.name} of this GPU"
            self._log.note("ceiling-unknown", f"{what}, so its ceiling is not kept.")

    def on_step_begin(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_more: object,
    ) -> None:
        """Wait until the card is below its ceilings."""
        passed = self._passed(pausing=False)
        if not passed:
            return
        self._tell(passed, state)
        waited = told = 0.0
        while waited < SHORTEST_S or passed:
            self._stop.check()
            self._sleep(LOOK_S)
            waited += LOOK_S
            passed = self._passed(pausing=True)
            if waited - told >= TELL_S:
                told = waited
                self._tell(passed, state)
        self._went_on(state)

    def _passed(self, *, pausing: bool) -> list[tuple[GpuLimit, float]]:
        measured = [(one, one.over(pausing=pausing)) for one in self._ceilings]
        return [(one, value) for one, value in measured if value is not None]

    def _tell(self, passed: list[tuple[GpuLimit, float]], state: TrainerState) -> None:
        for one, value in passed[:1]:
            text = (
                f"Paused: the GPU's {one.name} is {value:.0f} {one.unit}, the ceiling is "
                f"{one.bound:.0f} {one.unit}; it goes on at {one.goes_on_at:.0f} {one.unit}"
            )
            self._log.phase("paused", text, done=state.global_step, total=state.max_steps)


def gpu_limits(hardware: Hardware, meter: GpuSensors) -> list[GpuLimit]:
    """Return the ceilings that the settings name."""
    found = []
    if (hottest := hardware.max_gpu_temperature) is not None:
        goes_on_at = hottest - COOLER_C
        found.append(GpuLimit("temperature", "°C", hottest, goes_on_at, meter.temperature))
    if (most := hardware.max_gpu_power) is not None:
        found.append(GpuLimit("power", "W", most, most * LESS_POWER, meter.power))
    return found


def nvml_sensors() -> GpuSensors:
    """Return the meter of the card that torch trains on, through NVML."""
    return GpuSensors(
        lambda: _asked(lambda: float(torch.cuda.temperature())),
        lambda: _asked(lambda: torch.cuda.power_draw() / 1000),
    )


def _asked(ask: Callable[[], float]) -> float | None:
    try:
        return ask()
    except (pynvml.NVMLError, RuntimeError, OSError):  # the driver is absent or says nothing
        return None

"""Pause training between steps while the GPU exceeds a temperature or power limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml
import torch
from transformers import TrainerCallback, TrainerState

from modelforge.config.schema.runtime import Hardware
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop

# Hysteresis: how far below its limit the GPU must come, and how long a pause lasts at least.
COOLDOWN_C = 5.0
POWER_FACTOR = 0.95
MIN_PAUSE_S = 3.0
POLL_S = 0.5
# How often a long pause is reported again.
REPORT_S = 15.0


@dataclass(frozen=True)
class GpuLimit:
    """A limit: name, unit, bound, the value at which training continues, and how to measure it."""

    name: str
    unit: str
    bound: float
    resume_at: float
    measure: Callable[[], float | None]

    def excess(self, *, pausing: bool) -> float | None:
        """Return the measured value if it is a reason to pause, else None."""
        value = self.measure()
        if value is None or value <= (self.resume_at if pausing else self.bound):
            return None
        return value


@dataclass(frozen=True)
class GpuSensors:
    """Temperature in °C and power in W of the training GPU; None where not available."""

    temperature: Callable[[], float | None]
    power: Callable[[], float | None]


@dataclass(eq=False)
class GpuLimitCallback(TrainerCallback):
    """Pauses before a step while a limit is exceeded; a stop request ends the pause.

    `on_resume` is called after a pause, so that it is not counted as training time.
    """

    limits: list[GpuLimit]
    log: EventLog
    stop: Stop
    on_resume: Callable[[TrainerState], None]
    sleep: Callable[[float], None] = time.sleep

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Note limits that cannot be measured, and ignore them."""
        for limit in [limit for limit in self.limits if limit.measure() is None]:
            self.limits.remove(limit)
            text = f"The driver does not report the {limit.name} of this GPU, so its limit"
            self.log.note("ceiling-unknown", f"{text} is ignored.")

    def on_step_begin(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Wait until the GPU is below its limits."""
        exceeded = self._exceeded(pausing=False)
        if not exceeded:
            return
        self._report(exceeded, state)
        waited = reported_at = 0.0
        while waited < MIN_PAUSE_S or exceeded:
            self.stop.check()
            self.sleep(POLL_S)
            waited += POLL_S
            exceeded = self._exceeded(pausing=True)
            if waited - reported_at >= REPORT_S:
                reported_at = waited
                self._report(exceeded, state)
        self.on_resume(state)

    def _exceeded(self, *, pausing: bool) -> list[tuple[GpuLimit, float]]:
        measured = [(limit, limit.excess(pausing=pausing)) for limit in self.limits]
        return [(limit, value) for limit, value in measured if value is not None]

    def _report(self, exceeded: list[tuple[GpuLimit, float]], state: TrainerState) -> None:
        for limit, value in exceeded[:1]:
            text = (
                f"Paused: the GPU {limit.name} is {value:.0f} {limit.unit}, the limit is "
                f"{limit.bound:.0f} {limit.unit}; training continues at {limit.resume_at:.0f} "
                f"{limit.unit}"
            )
            self.log.phase("paused", text, done=state.global_step, total=state.max_steps)


def gpu_limits(hardware: Hardware, sensors: GpuSensors) -> list[GpuLimit]:
    """Return the configured limits."""
    limits = []
    temperature, power = hardware.max_gpu_temperature, hardware.max_gpu_power
    if temperature is not None:
        resume_at = temperature - COOLDOWN_C
        limits.append(GpuLimit("temperature", "°C", temperature, resume_at, sensors.temperature))
    if power is not None:
        limits.append(GpuLimit("power", "W", power, power * POWER_FACTOR, sensors.power))
    return limits


def nvml_sensors() -> GpuSensors:
    """Return the sensors of the GPU that torch trains on, read through NVML."""
    return GpuSensors(
        lambda: _read(lambda: float(torch.cuda.temperature())),
        lambda: _read(lambda: torch.cuda.power_draw() / 1000),
    )


def _read(sensor: Callable[[], float]) -> float | None:
    try:
        return sensor()
    except (pynvml.NVMLError, RuntimeError, OSError):  # no driver, or not supported by the GPU
        return None

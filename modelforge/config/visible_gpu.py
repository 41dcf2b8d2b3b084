"""The environment variables that leave the GPUs of a run visible to worker, chat, warm worker."""

from __future__ import annotations

import os
from collections.abc import Mapping

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
# The user's CUDA_VISIBLE_DEVICES, among whose GPUs `hardware.gpu_index` counts.
USER_VISIBLE = "MODELFORGE_VISIBLE_DEVICES"
ALL = "all"
# CUDA orders GPUs by speed by default; NVML, which the machine is probed with, by PCI bus.
PCI_ORDER = "PCI_BUS_ID"
# An empty value would unset the variable on Windows.
NO_GPU = "-1"


def visible_gpu(
    index: int | None, environ: Mapping[str, str] | None = None, count: int = 1
) -> dict[str, str]:
    """Return the variables that leave only the GPU of this index visible; None hides all.

    With a `count` the GPUs after it are visible too.

    The index counts the GPUs that the user's CUDA_VISIBLE_DEVICES names, by number or UUID, as the
    machine probe does; without that variable, all GPUs in NVML's order. The result is the same when
    the variables are already set for another index.
    """
    environ = os.environ if environ is None else environ
    visible = environ.get(USER_VISIBLE, environ.get(VISIBLE, ALL))
    if index is None:
        chosen = NO_GPU
    elif visible == ALL:
        chosen = ",".join(str(index + number) for number in range(count))
    else:
        names = [name.strip() for name in visible.split(",")]
        chosen = ",".join(names[index : index + count])
    # The user's numbers count in the user's order, our own as those of NVML.
    order = environ.get(ORDER, PCI_ORDER) if visible != ALL else PCI_ORDER
    return {VISIBLE: chosen or NO_GPU, USER_VISIBLE: visible, ORDER: order}

"""Detect kills by the Linux out-of-memory killer through its counters."""

from __future__ import annotations

from pathlib import Path

# The counters of our own cgroup; in a container they are at the root.
_OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_VMSTAT = Path("/proc/vmstat")


def oom_kill_counts(
    own: Path = _OWN_CGROUP, groups: Path = _CGROUPS, vmstat: Path = _VMSTAT
) -> dict[str, int]:
    """Return the number of OOM kills in our cgroup (`group`) and in total (`computer`).

    Counters that the system does not provide are missing.
    """
    counts = {}
    try:
        inside = own.read_text(encoding="ascii").strip().rpartition(":")[2].lstrip("/")
    except (OSError, ValueError):
        inside = ""
    for name, file in (("group", groups / inside / "memory.events"), ("computer", vmstat)):
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        count = next((line.split()[1] for line in lines if line.startswith("oom_kill ")), "")
        if count.isdecimal():
            counts[name] = int(count)
    return counts


def was_oom_killed(before: object, now: dict[str, int]) -> bool:
    """Return whether there were OOM kills since the counts `before`.

    The counter of our cgroup takes precedence over that of the whole computer.
    """
    if not isinstance(before, dict):
        return False
    for name in ("group", "computer"):
        count = before.get(name)
        if isinstance(count, int) and name in now:
            return now[name] > count
    return False

"""Whether the system has ended processes for want of memory: Linux counts them."""

from __future__ import annotations

from pathlib import Path

# Of our own group where there is one; in a container it stands at the top.
_CGROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_WHOLE = Path("/proc/vmstat")


def oom_kill_counts(
    own: Path = _CGROUP, groups: Path = _GROUPS, whole: Path = _WHOLE
) -> dict[str, int]:
    """Return how many processes were ended for want of memory, by where that was counted.

    Nothing where the system does not say.
    """
    counts = {}
    try:
        inside = own.read_text(encoding="ascii").strip().rpartition(":")[2].lstrip("/")
    except (OSError, ValueError):
        inside = ""
    for name, file in (("group", groups / inside / "memory.events"), ("computer", whole)):
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        found = next((line.split()[1] for line in lines if line.startswith("oom_kill ")), "")
        if found.isdecimal():
            counts[name] = int(found)
    return counts


def was_oom_killed(before: object, now: dict[str, int]) -> bool:
    """Say whether more processes were ended for want of memory than `before` had counted.

    Our own group's count goes before that of the whole computer, where others live too.
    """
    if not isinstance(before, dict):
        return False
    for name in ("group", "computer"):
        known = before.get(name)
        if isinstance(known, int) and name in now:
            return now[name] > known
    return False

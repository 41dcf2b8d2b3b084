"""Byte units and their text form."""

from __future__ import annotations

KIB = 2**10
MIB = 2**20
GIB = 2**30


def human_bytes(size: float) -> str:
    """Return a number of bytes in the largest unit that fits: 1.4 GiB, 340 MiB, 12 KiB, 7 B."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            amount = size / scale
            return f"{amount:,.1f} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"
    return f"{size:,.0f} B"


def human_gib(gib: float) -> str:
    """Return an amount of memory or disk space in GiB: 7.9 GiB."""
    return f"{gib:,.1f} GiB"

"""Simulation of PyTorch's CUDA caching allocator for a sequence of allocations.

The memory of a run is more than its live tensors, since cached blocks are reused only where a
tensor fits. The allocator is simulated so that fragmentation does not have to be guessed.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from modelforge.units import MIB

# (tensor number, bytes) for an allocation and (tensor number, -1) for a release, in order.
Events = list[tuple[int, int]]
ROUNDS = 2


class CudaAllocator:
    """PyTorch's caching allocator (c10/cuda/CUDACachingAllocator.cpp).

    Blocks are rounded up to 512 bytes. Those up to 1 MiB come from segments of 2 MiB, those below
    10 MiB from segments of 20 MiB, and larger ones from segments of their own in steps of 2 MiB.
    Segments are not released. `reserved` is the sum of all segments in bytes. With `expandable`
    segments each of the two pools is one segment that grows, by 2 MiB or 20 MiB.
    """

    _SMALL, _MEDIUM, _LARGE, _STEP = MIB, 20 * MIB, 10 * MIB, 2 * MIB

    def __init__(self, *, expandable: bool = False) -> None:
        self.reserved = 0
        self._expandable = expandable
        # Where the next segment begins, by pool: far apart, so that the pools do not meet.
        self._next = {True: 0, False: 2**60}
        self._allocated: dict[int, tuple[int, int, bool]] = {}
        # Free blocks by pool (small or not) as (size, start), and their starts and ends.
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._size_at: dict[int, int] = {}
        self._start_before: dict[int, int] = {}

    def allocate(self, key: int, size: int) -> None:
        """Allocate `size` bytes under a key."""
        wanted = max(512, -(-size // 512) * 512)
        is_small = wanted <= self._SMALL
        blocks = self._free[is_small]
        position = bisect_left(blocks, (wanted, 0))
        if position < len(blocks):
            length, start = blocks[position]
            self._remove_block(length, start, is_small)
        else:
            grow = self._expand if self._expandable else self._add_segment
            length, start = grow(wanted, is_small)
        rest = length - wanted
        if rest >= 512 if is_small or self._expandable else rest > self._SMALL:
            self._add_block(start + wanted, rest, is_small)
            length = wanted
        self._allocated[key] = start, length, is_small

    def release(self, key: int) -> None:
        """Release what was allocated under a key."""
        start, size, is_small = self._allocated.pop(key)
        self._add_block(start, size, is_small)

    def _add_segment(self, wanted: int, is_small: bool) -> tuple[int, int]:
        """Return length and start of a new segment."""
        length, start = self._segment_size(wanted, is_small), self._next[is_small]
        # A gap of one byte, so that blocks of two segments are never merged.
        self._next[is_small] += length + 1
        self.reserved += length
        return length, start

    def _expand(self, wanted: int, is_small: bool) -> tuple[int, int]:
        """Return length and start of the last free block, once the segment has grown for it."""
        end = start = self._next[is_small]
        if end in self._start_before:
            start = self._start_before[end]
            self._remove_block(end - start, start, is_small)
        page = self._STEP if is_small else self._MEDIUM
        added = -(-(wanted - (end - start)) // page) * page
        self._next[is_small] += added
        self.reserved += added
        return end + added - start, start

    def _segment_size(self, wanted: int, is_small: bool) -> int:
        if is_small:
            return self._STEP
        if wanted < self._LARGE:
            return self._MEDIUM
        return -(-wanted // self._STEP) * self._STEP

    def _add_block(self, start: int, size: int, is_small: bool) -> None:
        """Add a free block and merge it with its free neighbours."""
        if start in self._start_before:
            before = self._start_before[start]
            length = self._size_at[before]
            self._remove_block(length, before, is_small)
            start, size = before, size + length
        if start + size in self._size_at:
            after = self._size_at[start + size]
            self._remove_block(after, start + size, is_small)
            size += after
        insort(self._free[is_small], (size, start))
        self._size_at[start], self._start_before[start + size] = size, start

    def _remove_block(self, size: int, start: int, is_small: bool) -> None:
        blocks = self._free[is_small]
        del blocks[bisect_left(blocks, (size, start))]
        del self._size_at[start]
        del self._start_before[start + size]


def peak_reserved(events: Events, allocator: CudaAllocator) -> int:
    """Return the bytes reserved after two rounds; the second reuses blocks of the first."""
    for number in range(ROUNDS):
        live: dict[int, int] = {}
        for position, (key, size) in enumerate(events):
            if size >= 0:
                live[key] = number * len(events) + position
                allocator.allocate(live[key], size)
            elif key in live:
                allocator.release(live.pop(key))
        for name in live.values():
            allocator.release(name)
    return allocator.reserved


def peak_allocated(events: Events) -> int:
    """Return the largest number of bytes that were live at once."""
    live = peak = 0
    sizes: dict[int, int] = {}
    for key, size in events:
        if size >= 0:
            sizes[key] = size
            live += size
        else:
            live -= sizes.pop(key, 0)
        peak = max(peak, live)
    return peak

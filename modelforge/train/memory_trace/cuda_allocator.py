"""What torch's cache on a card takes for a sequence of tensors that come and go.

Tensors alive are not the memory of a run: the cache hands holes out again only as they fit. It is
played through here, so that nothing has to be guessed.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from modelforge.units import MIB

# What came (a number of its own, its bytes) or went (the number, -1), in order.
Events = list[tuple[int, int]]
ROUNDS = 2


class CudaAllocator:
    """torch's caching allocator on a card (c10/cuda/CUDACachingAllocator.cpp).

    Blocks are rounded to 512 bytes. Small ones come from segments of 2 MiB, those below 10 MiB
    from segments of 20, larger ones from segments of their own in steps of 2; nothing goes back.
    """

    _SMALL, _MIDDLE, _OWN, _STEP = MIB, 20 * MIB, 10 * MIB, 2 * MIB

    def __init__(self) -> None:
        self.most = 0
        self._next = 0
        self._given: dict[int, tuple[int, int, bool]] = {}
        self._holes: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def take(self, key: int, size: int) -> None:
        """Give out so many bytes under a key."""
        wanted = max(512, -(-size // 512) * 512)
        small = wanted <= self._SMALL
        holes = self._holes[small]
        place = bisect_left(holes, (wanted, 0))
        if place < len(holes):
            length, start = holes[place]
            self._fill(length, start, small)
        else:
            length, start = self._segment(wanted, small), self._next
            # Segments do not touch, so that no two grow together.
            self._next += length + 1
            self.most += length
        rest = length - wanted
        if rest >= 512 if small else rest > self._SMALL:
            self._hole(start + wanted, rest, small)
            length = wanted
        self._given[key] = start, length, small

    def free(self, key: int) -> None:
        """Take back what was given out under a key."""
        start, size, small = self._given.pop(key)
        self._hole(start, size, small)

    def _segment(self, wanted: int, small: bool) -> int:
        if small:
            return self._STEP
        if wanted < self._OWN:
            return self._MIDDLE
        return -(-wanted // self._STEP) * self._STEP

    def _hole(self, start: int, size: int, small: bool) -> None:
        if start in self._ends:
            before = self._ends[start]
            length = self._starts[before]
            self._fill(length, before, small)
            start, size = before, size + length
        if start + size in self._starts:
            after = self._starts[start + size]
            self._fill(after, start + size, small)
            size += after
        insort(self._holes[small], (size, start))
        self._starts[start], self._ends[start + size] = size, start

    def _fill(self, size: int, start: int, small: bool) -> None:
        holes = self._holes[small]
        del holes[bisect_left(holes, (size, start))]
        del self._starts[start]
        del self._ends[start + size]


def peak_reserved(events: Events, cache: CudaAllocator) -> int:
    """Return what the cache holds at most over two rounds: the second finds holes of the first."""
    for number in range(ROUNDS):
        alive: dict[int, int] = {}
        for place, (key, size) in enumerate(events):
            if size >= 0:
                alive[key] = number * len(events) + place
                cache.take(alive[key], size)
            elif key in alive:
                cache.free(alive.pop(key))
        for name in alive.values():
            cache.free(name)
    return cache.most


def peak_allocated(events: Events) -> int:
    """Return what of it is alive at most."""
    alive = most = 0
    sizes: dict[int, int] = {}
    for key, size in events:
        alive += size if size >= 0 else -sizes.pop(key, 0)
        if size >= 0:
            sizes[key] = size
        most = max(most, alive)
    return most

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
MIB = 2**20


@pytest.mark.parametrize(
    ("sizes", "held"),
    [([1], 2), ([3], 20), ([3, 3], 20), ([19, 3], 40), ([11], 12), ([0.5] * 5, 4)],
)
def test_segments_are_those_of_torch(sizes, held):
    from modelforge.train.memory_trace.cuda_allocator import CudaAllocator, peak_reserved

    events = [(number, int(size * MIB)) for number, size in enumerate(sizes)]
    assert peak_reserved(events, CudaAllocator()) == held * MIB


def test_a_hole_is_used_again_and_holes_grow_together():
    from modelforge.train.memory_trace.cuda_allocator import CudaAllocator

    cache = CudaAllocator()
    for key in range(4):
        cache.take(key, 5 * MIB)
    for key in range(4):
        cache.free(key)
    cache.take(9, 20 * MIB)
    assert cache.most == 20 * MIB

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
MIB = 2**20


@pytest.mark.parametrize(
    ("sizes", "reserved"),
    [([1], 2), ([3], 20), ([3, 3], 20), ([19, 3], 40), ([11], 12), ([0.5] * 5, 4)],
)
def test_segments_have_the_sizes_of_pytorch(sizes, reserved):
    from modelforge.train.memory_trace.cuda_allocator import CudaAllocator, peak_reserved

    events = [(number, int(size * MIB)) for number, size in enumerate(sizes)]
    assert peak_reserved(events, CudaAllocator()) == reserved * MIB


def test_free_blocks_are_reused_and_merged():
    from modelforge.train.memory_trace.cuda_allocator import CudaAllocator

    allocator = CudaAllocator()
    for key in range(4):
        allocator.allocate(key, 5 * MIB)
    for key in range(4):
        allocator.release(key)
    allocator.allocate(9, 20 * MIB)
    assert allocator.reserved == 20 * MIB

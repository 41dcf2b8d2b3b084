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


@pytest.mark.parametrize(
    ("sizes", "reserved"),
    [([1], 2), ([3], 20), ([19, 3], 40), ([11, 11], 40), ([19, 20], 40), ([0.5, 3], 22)],
)
def test_an_expandable_segment_grows_by_pages(sizes, reserved):
    from modelforge.train.memory_trace.cuda_allocator import CudaAllocator, peak_reserved

    events = [(number, int(size * MIB)) for number, size in enumerate(sizes)]
    assert peak_reserved(events, CudaAllocator(expandable=True)) == reserved * MIB


def test_batches_of_growing_length_leave_no_gaps_in_expandable_segments():
    from modelforge.train.memory_trace.cuda_allocator import CudaAllocator

    fixed, expandable = CudaAllocator(), CudaAllocator(expandable=True)
    for allocator in (fixed, expandable):
        for size in range(20, 100, 10):
            allocator.allocate(size, size * MIB)
            allocator.release(size)
    assert expandable.reserved == 100 * MIB
    assert fixed.reserved == sum(range(20, 100, 10)) * MIB

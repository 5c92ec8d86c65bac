"""How a pipeline cuts its images in parts."""

from hypothesis import given
from hypothesis import strategies as st

from grid.stages.pipeline import PART_IMAGES, part_size

counts = st.integers(1, 100_000), st.integers(1, 256), st.integers(1, 64)


@given(*counts)
def test_a_kill_costs_little_and_no_replica_idles_while_batches_wait(images, batch_size, replicas):
    size = part_size(images, batch_size, replicas)
    parts = -(-images // size)
    assert batch_size <= size <= PART_IMAGES
    whole_batches = -(-images // batch_size)
    assert parts >= min(2 * replicas, whole_batches), "at least two each, if there are so many batches"


def test_a_hundred_photographs_are_shared_by_two_replicas():
    assert part_size(100, 16, 2) == 16
    assert part_size(3600, 64, 2) == PART_IMAGES, "as many images as a kill may cost"
    assert part_size(60, 30, 1) == 30, "progress is seen before the end"

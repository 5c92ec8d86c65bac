"""What earlier launches left, counted by hand."""

import pytest

from grid.results import history
from grid.results.store import ResultsStore


def test_rates_are_seconds_of_all_images_and_of_a_run_where_no_images_are_read(store: ResultsStore) -> None:
    """The mean over images, not over runs; one that was never timed does not count."""
    runs = [
        ("clip_images", 10, 6.0),
        ("clip_images", 30, 2.0),
        ("classifier", 0, 3.0),
        ("classifier", 0, 5.0),
    ]
    for number, (kind, images, seconds) in enumerate([*runs, ("clip_images", 1000, None)]):
        store.record_stage({"key": f"k{number}", "kind": kind, "images": images, "seconds": seconds})
    with store.reading() as connection:
        rates = history.stage_rates(connection)
    assert rates == {"clip_images": pytest.approx(8 / 40), "classifier": pytest.approx(8 / 2)}

"""What earlier stages and trials took, counted by hand, and which of them the next ones are like."""

from dataclasses import replace
from typing import Any

import pytest

from grid.results.store import ResultsStore, TrialEntry
from grid.results.throughput import Throughput, Work, recorded_stages, throughput

IMAGES = Work("image", "clip_images", "cpu", "{}", "f", "birds")
RUN = Work("run", "classifier", "cpu", "{}", "f", "birds")
A, B = ({"model": name} for name in "ab")
OF_A, OF_B = ('{"model": "a"}', '{"model": "b"}')


def record(store: ResultsStore, *stages: dict[str, Any]) -> None:
    for number, stage in enumerate(stages):
        identity = {"parameters": stage.pop("parameters", {}), "data": stage.pop("data", "f"), "inputs": {}}
        store.record_stage(
            {"key": f"k{number}", "kind": "clip_images", "dataset": "birds", "identity": identity, **stage}
        )


def measured(store: ResultsStore) -> Throughput:
    with store.reading() as connection:
        return throughput(connection, recorded_stages(connection))


def test_an_image_takes_the_mean_over_images_and_a_run_the_mean_over_runs(store: ResultsStore) -> None:
    """Not over stages; one that was never timed does not count."""
    record(
        store,
        {"images": 10, "seconds": 6.0},
        {"images": 30, "seconds": 2.0},
        {"images": 1000, "seconds": None},
        {"kind": "classifier", "images": 0, "seconds": 3.0},
        {"kind": "classifier", "images": 0, "seconds": 5.0},
    )
    found = measured(store)
    assert found.seconds_each(IMAGES) == pytest.approx(8 / 40)
    assert found.seconds_each(RUN) == pytest.approx(8 / 2)


def test_seconds_of_a_resumed_stage_went_to_the_images_that_were_left(store: ResultsStore) -> None:
    record(store, {"images": 1000, "images_computed": 10, "seconds": 2.0})
    assert measured(store).seconds_each(IMAGES) == pytest.approx(0.2)
    record(store, {"images": 1000, "images_computed": 0, "seconds": 0.01})
    assert measured(store).seconds_each(IMAGES) is None


def test_an_image_takes_what_it_took_the_same_model_if_need_be_on_other_data(store: ResultsStore) -> None:
    record(
        store,
        {"parameters": A, "images": 10, "seconds": 10.0},
        {"parameters": A, "images": 10, "seconds": 20.0, "dataset": "pets"},
        {"parameters": B, "images": 10, "seconds": 40.0, "dataset": "pets"},
    )
    found = measured(store)
    each = lambda **known: found.seconds_each(replace(IMAGES, **known))  # noqa: E731
    assert each(config=OF_A) == pytest.approx(1)
    assert each(config=OF_A, dataset="pets") == pytest.approx(2)
    assert each(config=OF_A, dataset="cars") == pytest.approx(30 / 20), "the model, on any data"
    assert each(config=OF_B, dataset="birds") == pytest.approx(4), "the model, on other data"
    assert each(config="new", dataset="pets") == pytest.approx(60 / 20), "the data, with any model"
    assert each(config="new", dataset="cars") == pytest.approx(70 / 30), "its kind"
    assert each(kind="boxes", config=OF_A) is None


def test_a_run_takes_what_runs_took_on_the_same_images(store: ResultsStore) -> None:
    """Its seconds are of all images of its data set, which may be drawn in another size under the same name."""
    record(
        store,
        *(
            {"kind": "classifier", "parameters": {**A, "seed": seed}, "seconds": seconds}
            for seed, seconds in enumerate((4.0, 6.0))
        ),
        {"kind": "classifier", "parameters": B, "seconds": 8.0},
        {"kind": "classifier", "parameters": A, "seconds": 100.0, "data": "large"},
    )
    found = measured(store)
    assert found.seconds_each(replace(RUN, config=OF_A)) == pytest.approx(5), "whatever the seed"
    assert found.seconds_each(replace(RUN, config="new")) == pytest.approx(18 / 3)
    assert found.seconds_each(replace(RUN, config=OF_B, data="large")) == pytest.approx(100)
    assert found.seconds_each(replace(RUN, config=OF_A, data="other")) == pytest.approx(118 / 4)


def test_what_a_gpu_took_says_nothing_of_a_cpu(store: ResultsStore) -> None:
    record(store, {"images": 10, "seconds": 1.0, "device": "cuda:1"})
    found = measured(store)
    assert found.seconds_each(IMAGES) is None
    assert found.seconds_each(replace(IMAGES, device="cuda")) == pytest.approx(0.1)


def test_a_trial_takes_the_mean_of_done_ones_of_its_method(store: ResultsStore) -> None:
    launch = store.begin_launch("e", spec="", plan={}, command="")
    done = [("birds", 1, 2.0), ("birds", 1, 4.0), ("birds", 9, 30.0), ("pets", 1, 100.0), ("pets", 9, None)]
    works = []
    for seed, (dataset, knob, seconds) in enumerate(done):
        entry = TrialEntry(
            id=f"t{seed}", method="bag", method_version=1, dataset=dataset, data_fingerprint=dataset,
            seed=seed, config={"knob": knob, "seed": seed},
        )  # fmt: skip
        store.enter("e", [entry])
        attempt = store.claim(entry.id, launch)
        works.append(Work("trial", "bag", "cpu", entry.config_id, dataset, dataset))
        if seconds is None:
            store.fail(entry.id, "no luck")
            continue
        assert store.finish(
            entry.id,
            {"attempt": attempt, "metrics": [], "n_failed": 0, "on_failed": "wrong", "seconds": seconds,
             "provenance": {"device": "cpu"}},
        )  # fmt: skip
    found = measured(store)
    assert found.seconds_each(works[0]) == pytest.approx(3), "seeds of the same configuration"
    assert found.seconds_each(works[4]) == pytest.approx(100), "the method on the same data"
    assert found.seconds_each(replace(works[0], config="new")) == pytest.approx(36 / 3)
    elsewhere = Work("trial", "bag", "cpu", "new", "cars", "cars")
    assert found.seconds_each(elsewhere) == pytest.approx(136 / 4)
    estimate = found.estimate([(works[0], 10), (elsewhere, 2), (replace(elsewhere, kind="new"), 3)])
    assert estimate.seconds == pytest.approx(30 + 68)
    assert estimate.not_measured == ("new",)

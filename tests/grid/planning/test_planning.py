"""What a search learns from, by the proposals that a launch asks: validation, final numbers, and all of a group."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid.planning.planning import proposals_of
from tests.grid.test_life_cycle import World

METHOD = {
    "method": "seg_mil_cbm",
    "clip": {"checkpoint": "datasets/toybirds/clip"},
    "segmenter": "slic",
    "lambda_concept": {"low": 0.0, "high": 1.0},
}


class Scored(World):
    """A world whose workers report a value on the validation split, its reverse on the test split, and both on the
    way there, where they were worse."""

    def report(self, trial_id: str, attempt: int, value: float = 0.5) -> dict[str, Any]:
        report = super().report(trial_id, attempt, value)
        final = report["metrics"][0]
        report["metrics"] += [
            {**final, "split": "test", "value": -value},
            {**final, "step": 0, "value": -9.0},
        ]
        self.store.storage.write_json(f"trials/{trial_id}/{attempt}/manifest.json", report)
        return report

    def search(self, outcome: Any) -> None:
        plan = self.plan()
        (proposals,) = proposals_of(plan, plan.to_run, self).values()  # type: ignore[arg-type]
        self.execute(plan, proposals, outcome)


def searching(folder: Path, trials: int, **search: Any) -> Scored:
    wanted = {"kind": "optuna", "trials": trials, "seed": 0, "metric": "average_accuracy", **search}
    return Scored(folder, methods=[METHOD], seeds=[0, 1], search=wanted)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_search_comes_to_the_best_by_final_numbers_of_validation(tmp_path: Path, mode: str) -> None:
    """The less of the knob, the better: values drawn evenly would be 0.5 on average, and those that come to the worst
    near 1."""
    world, sign = searching(tmp_path, 80, mode=mode), 1 if mode == "max" else -1
    asked: list[float] = []

    def outcome(task: Any) -> float:
        asked.append(task.method.lambda_concept)
        return -sign * asked[-1]

    world.search(outcome)
    assert asked[::2] == asked[1::2], "both seeds of each"
    assert len(asked) == 80
    assert np.mean(asked[-40:]) < 0.25


def test_a_configuration_of_which_a_seed_failed_is_not_finished(tmp_path: Path) -> None:
    """The same command runs that seed again, first of all."""
    world = searching(tmp_path, 16)
    failed: list[str] = []

    def every_second_fails(task: Any) -> float | str:
        if task.seed == 0:
            return 0.5
        failed.append(task.id)
        return "RuntimeError: no luck"

    world.search(every_second_fails)
    assert (len(world.executed), len(failed)) == (16, 8)
    world.search(lambda task: 0.5)
    assert world.executed[16:24] == failed

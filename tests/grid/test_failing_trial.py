"""A trial that raises in its worker, with no Ray in it."""

from types import SimpleNamespace

import pytest

from grid.spec.spec import MethodResources
from grid.trials import launch


def test_a_trial_that_diverges_is_reported_with_its_step_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_trial(
        task: SimpleNamespace, dataset: object, store: object, device: str, on_step: object
    ) -> None:
        if task.id == "bad":
            raise FloatingPointError("loss is nan at step 3")

    reports: list[dict[str, str]] = []
    monkeypatch.setattr(launch, "run_trial", run_trial)
    monkeypatch.setattr(launch, "use_threads", lambda num_cpus: None)
    monkeypatch.setattr(launch.tune, "report", reports.append)
    tasks = [SimpleNamespace(id=name, attempt=1, data_fingerprint="f") for name in ("bad", "good")]
    launch.run_tasks({"tasks": tasks}, {"f": None}, None, MethodResources())  # type: ignore[arg-type, dict-item]
    bad, good = reports
    assert bad["failed_trial"] == "bad"
    assert bad["failure"].splitlines()[-1] == "FloatingPointError: loss is nan at step 3"
    assert good == {"finished_trial": "good", "attempt": 1}

"""Three trials with a picture each, two knobs that vary, and more numbers than one wants to read."""

from pathlib import Path

from PIL import Image

from grid.results.store import ResultsStore, TrialEntry

ACCURACIES = {4: (0.5, 0.75), 6: (0.625, 0.875), 8: (0.25, 0.5)}  # by bag size: worst group, average


def three_trials(store: ResultsStore, experiment: str, folder: Path) -> list[Path]:
    """Enters them as done; their pictures."""
    pictures = []
    for size, (worst, average) in ACCURACIES.items():
        entry = TrialEntry(
            id=f"size-{size}", method="seg_mil_cbm", method_version=1, dataset="toybirds", data_fingerprint="f",
            seed=0, config={"bag_size": size, "rho_max": 0.5 + size / 100, "k_top": 10},
        )  # fmt: skip
        store.enter(experiment, [entry])
        store.claim(entry.id, None)
        place = {"split": "test", "group": "all", "selection": "last", "step": None}
        numbers = [("average_accuracy", average), ("worst_group_accuracy", worst)]
        metrics = [
            *({**place, "name": f"a_detail_{number}", "value": number} for number in range(40)),
            *(
                {**place, "split": split, "name": n, "value": v}
                for split in ("val", "test")
                for n, v in numbers
            ),
            {**place, "name": "worst_group_accuracy", "group": "landbird", "value": 0.1},
            *({**place, "name": "average_accuracy", "step": step, "value": 0.3} for step in (0, 1)),
        ]
        picture = folder / entry.id / "pictures" / "1525.jpg"
        picture.parent.mkdir(parents=True)
        Image.new("RGB", (64, 48), (size, 200, 100)).save(picture)
        pictures.append(picture)
        done = {"n_failed": 0, "on_failed": "wrong", "seconds": 1.0, "provenance": {}, "attempt": 1}
        assert store.finish(entry.id, {**done, "metrics": metrics, "uri": picture.parent.parent.as_uri()})
    return pictures

"""Corrupted toy birds against the clean ones."""

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from components.data.card import load_card
from components.data.drawing.corruptions import CORRUPTIONS, SEVERITIES
from components.data.generators.corrupted import Corrupted
from components.data.generators.toybirds import Toybirds
from components.data.readers.corrupted_csv import CorruptedCsv
from grid.names import component_class
from grid.spec.build import build

SOURCE = Toybirds(n_train=8, n_val=4, n_test=6)
SMALL = Corrupted(source=SOURCE, corruptions=("brightness", "gaussian_noise"), severities=(1, 4))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    SOURCE.generate(folder / "clean")
    SMALL.generate(folder / "corrupted")
    return folder / "clean", folder / "corrupted"


def rows(root):
    with (root / "metadata.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_training_and_validation_are_the_sources(roots):
    clean, corrupted = map(digests, roots)
    kept = [row for row in rows(roots[0]) if row["split"] != "2"]
    told = [row for row in rows(roots[1]) if row["split"] != "2"]
    assert [{**row, "corruption": "", "severity": ""} for row in kept] == told
    for row in kept:
        stem = row["img_filename"].removeprefix("images/").removesuffix(".jpg")
        for path in (row["img_filename"], f"masks/{stem}.png", f"parts/{stem}.png"):
            assert corrupted[path] == clean[path]
    assert not [
        path for path in corrupted if path.endswith(".jpg") and path not in {r["img_filename"] for r in kept}
    ]


def test_every_pair_has_every_test_image_with_its_labels_and_masks(roots):
    clean, root = roots
    sources = {row["img_filename"].split("/")[-1][:-4]: row for row in rows(clean) if row["split"] == "2"}
    made = [row for row in rows(root) if row["split"] == "2"]
    assert Counter((row["corruption"], row["severity"]) for row in made) == {
        (corruption, severity): 6 for corruption in SMALL.corruptions for severity in "14"
    }
    errors = Counter()
    for row in made:
        folder, stem = row["img_filename"].removesuffix(".png").split("/")[1:]
        assert folder == f"{row['corruption']}-{row['severity']}"
        assert {key: row[key] for key in ("y", "place", "place_filename")} == {
            key: sources[stem][key] for key in ("y", "place", "place_filename")
        }
        for kind in ("masks", "parts"):
            assert (root / kind / folder / f"{stem}.png").read_bytes() == (
                clean / kind / f"{stem}.png"
            ).read_bytes()
        before = np.asarray(Image.open(clean / sources[stem]["img_filename"])).astype(float)
        after = np.asarray(Image.open(root / row["img_filename"]))
        errors[folder] += np.square(after - before).mean() / 6
    assert errors["gaussian_noise-1"] == pytest.approx((255 * 0.04) ** 2, rel=0.1)
    assert errors["gaussian_noise-4"] == pytest.approx((255 * 0.09) ** 2, rel=0.15)
    assert errors["brightness-4"] > 4 * errors["brightness-1"]


def test_the_reader_makes_a_group_of_every_pair(roots):
    card = load_card("toybirds_c")
    index = CorruptedCsv().read(roots[1], card)
    assert index.group_names == (
        "landbird on land",
        "landbird on water",
        "waterbird on land",
        "waterbird on water",
        "brightness 1",
        "brightness 4",
        "gaussian_noise 1",
        "gaussian_noise 4",
    )
    for row, told in enumerate(rows(roots[1])):
        assert index.paths[row] == told["img_filename"]
        clean = 2 * int(told["y"]) + int(told["place"])
        name = f"{told['corruption']} {told['severity']}" if told["corruption"] else index.group_names[clean]
        assert index.group_names[index.groups[row]] == name
        assert index.beside(index.masks, row).is_file()
        assert index.beside(index.part_masks, row).is_file()
    assert len(index) == 8 + 4 + 24


def test_bytes_depend_on_the_knobs_alone(roots, tmp_path):
    SMALL.generate(tmp_path / "two", workers=2)
    assert digests(tmp_path / "two") == digests(roots[1])
    Corrupted(source=SOURCE, corruptions=SMALL.corruptions, severities=(1, 4), seed=1).generate(
        tmp_path / "other"
    )
    first, other = digests(roots[1]), digests(tmp_path / "other")
    changed = {path.split("/")[1] for path in first if first[path] != other[path]}
    assert changed == {"gaussian_noise-1", "gaussian_noise-4"}  # brightness draws nothing


def test_progress_counts_every_image_and_a_killed_run_is_cleared(tmp_path):
    told = []

    def kill(done, total):
        told.append((done, total))
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SMALL.generate(tmp_path / "data", kill)
    assert told == [(i, 18 + 24) for i in range(1, 21)]
    assert not (tmp_path / "data").exists()
    SMALL.generate(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with pytest.raises(FileExistsError, match="data exists"):
        SMALL.generate(tmp_path / "data")


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"corruptions": ["frost"]}, "expected some of gaussian_noise"),
        ({"corruptions": []}, "each once"),
        ({"severities": [0]}, "expected some of 1, 2, 3, 4, 5"),
        ({"severities": [1, 1]}, "each once"),
    ],
)
def test_unknown_and_repeated_corruptions_are_refused(knobs, says):
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(Corrupted).validate_python(knobs)


def test_the_card_asks_for_all_corruptions_of_toybirds_with_60_test_images():
    knobs = dict(load_card("toybirds_c").generator)
    made = build(component_class("components.data.generators", knobs.pop("name")), knobs, "generator")
    assert made.source == Toybirds(n_test=60)
    assert (made.corruptions, made.severities) == (CORRUPTIONS, SEVERITIES)
    assert load_card("toybirds_c").vocabulary() == load_card("toybirds").vocabulary()

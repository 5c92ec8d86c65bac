"""The toy birds against what they are said to be."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.stats import binom, kstest

from components.data.drawing import backgrounds
from components.data.drawing.bird_drawing import HORN, PLUMAGE, Bird, draw
from components.data.generators import toybirds
from components.data.generators.toybirds import CLASSES, PARTS, Toybirds
from components.identity import rng

SMALL = Toybirds(n_train=400, n_val=40, n_test=80, seed=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toybirds") / "data"
    SMALL.generate(folder)
    return folder


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pictures(root):
    """Image, mask and parts of every bird with its attributes."""
    metadata, attributes = rows(root / "metadata.csv"), rows(root / "attributes.csv")
    for meta, drawn in zip(metadata, attributes, strict=True):
        stem = Path(meta["img_filename"]).stem
        paths = (
            root / meta["img_filename"],
            root / f"masks/{stem}.png",
            root / f"parts/{stem}.png",
        )
        yield (*(np.asarray(Image.open(path)) for path in paths), drawn)


def test_layout_is_that_of_the_waterbirds_release(root):
    header = (root / "metadata.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "img_id,img_filename,y,split,place,place_filename"
    for i, row in enumerate(rows(root / "metadata.csv")):
        assert int(row["img_id"]) == i
        assert row["img_filename"] == f"images/{i:05d}_{('landbird', 'waterbird')[int(row['y'])]}.jpg"
        assert row["place_filename"].split("/")[0] == ("land", "water")[int(row["place"])]
    for folder, suffix in (("images", "jpg"), ("masks", "png"), ("parts", "png")):
        assert len(list((root / folder).glob(f"*.{suffix}"))) == 520


def test_groups_have_the_stated_sizes(root):
    counts = Counter((r["split"], r["y"], r["place"]) for r in rows(root / "metadata.csv"))
    assert counts["0", "0", "0"] == counts["0", "1", "1"] == 190  # 95 % of 200
    assert counts["0", "0", "1"] == counts["0", "1", "0"] == 10
    for split, each in (("1", 10), ("2", 20)):
        assert {counts[split, y, place] for y in "01" for place in "01"} == {each}


def test_label_is_the_majority_of_four_parts_and_each_part_errs_as_often_as_stated(root):
    typical = {"beak": "flat", "neck": "long", "tail": "short", "feet": "webbed"}
    labels = [int(r["y"]) for r in rows(root / "metadata.csv")]
    attributes = rows(root / "attributes.csv")
    votes = np.array([[a[part] == kind for part, kind in typical.items()] for a in attributes])
    np.testing.assert_array_equal(votes.sum(1) > 2, np.array(labels) == 1)
    assert not (votes.sum(1) == 2).any()
    # given at least 3 of 4 are typical: P(one given part is not) = .1 .9^3 / (.9^4 + 4 * .1 .9^3)
    p = 0.1 * 0.9**3 / (0.9**4 + 4 * 0.1 * 0.9**3)
    wrong = (votes != np.array(labels, bool)[:, None]).sum(0)
    assert (binom.ppf(1e-4, 520, p) <= wrong).all()
    assert (wrong <= binom.ppf(1 - 1e-4, 520, p)).all()


def test_random_attributes_do_not_tell_the_class(root):
    labels = np.array([int(r["y"]) for r in rows(root / "metadata.csv")])
    attributes = rows(root / "attributes.csv")
    for name, value in (("crest", "True"), ("stripe", "True"), ("flip", "True")):
        has = np.array([a[name] == value for a in attributes])
        for y in (0, 1):
            n = int((labels == y).sum())
            assert binom.ppf(1e-4, n, 0.5) <= has[labels == y].sum() <= binom.ppf(1 - 1e-4, n, 0.5)


def test_fog_is_uniform_in_its_range(root):
    fog = np.array([float(a["fog"]) for a in rows(root / "attributes.csv")])
    width = SMALL.fog_high - SMALL.fog_low
    assert kstest((fog - SMALL.fog_low) / width, "uniform").pvalue > 1e-4


def test_masks_are_the_union_of_the_parts_and_the_whole_bird_is_in_the_frame(root):
    for image, mask, parts, drawn in pictures(root):
        assert image.shape == (64, 64, 3)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, parts > 0)
        assert mask[1:-1, 1:-1].sum() == mask.sum()  # nothing touches the frame
        seen = {PARTS[k - 1] for k in np.unique(parts[parts > 0])}
        assert seen == set(PARTS) - (set() if drawn["crest"] == "True" else {"crest"})


def test_body_and_feet_have_their_colours_under_their_masks(root):
    for image, _, parts, drawn in pictures(root):
        body = image[binary_erosion(parts == PARTS.index("body") + 1)]
        expected = 255 * np.array(PLUMAGE[drawn["colour"]])
        np.testing.assert_allclose(np.median(body, axis=0), expected, atol=12)
        feet = image[parts == PARTS.index("feet") + 1] / 255
        error = {name: np.abs(np.median(feet, 0) - colour).sum() for name, colour in HORN.items()}
        assert min(error, key=error.__getitem__) == drawn["horn"] or len(feet) < 25


def test_background_is_one_plain_colour_where_the_fog_is_complete(tmp_path):
    Toybirds(n_train=4, n_val=4, n_test=4, fog_low=1.0, fog_high=1.0).generate(tmp_path / "d")
    for image, mask, _, _ in pictures(tmp_path / "d"):
        outside = image[~binary_dilation(mask, iterations=2)]
        # what is left is the noise of 0.03 and the JPEG's rounding; a texture has 0.1 and more
        assert 255 * 0.03 * 0.8 < outside.std(0).max() < 255 * 0.03 * 1.5


def test_a_part_has_the_area_that_its_drawing_says():
    """An upright bird on black without noise: the head is an ellipse, of area π a b."""
    bird = Bird(beak="flat", neck="long", tail="short", feet="webbed", crest=False, stripe=False,
                colour="white", horn="orange", scale=1.0, rotation=0.0, flip=False)  # fmt: skip
    image, parts = draw(bird, np.zeros((128, 128, 3)), rng(0, "area"))
    head = (parts == PARTS.index("head") + 1).sum() / 128**2
    assert head == pytest.approx(np.pi * 0.075 * 0.068, rel=0.05)
    own = image[binary_erosion(parts == PARTS.index("body") + 1, iterations=2)]
    np.testing.assert_allclose(own, np.broadcast_to(PLUMAGE["white"], own.shape), atol=1 / 255)
    assert image[~binary_dilation(parts > 0)].max() == 0


def test_splits_crop_disjoint_pixels(monkeypatch):
    """On a picture whose grey value is its column, no split shows a column of another's."""
    columns = np.broadcast_to(np.arange(512), (512, 512)).astype(np.float32)
    monkeypatch.setattr(backgrounds, "_photograph", lambda texture: columns)
    spans = {}
    for split in ("train", "val", "test"):
        crops = [backgrounds.crop(rng(i, split), "grass", split, 64) * 255 for i in range(200)]
        spans[split] = (min(c.min() for c in crops), max(c.max() for c in crops))
    assert spans["train"][1] < spans["val"][0]
    assert spans["val"][1] < spans["test"][0]
    assert spans["train"][0] >= 0
    assert spans["test"][1] <= 511


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_bytes_depend_on_the_knobs_alone(tmp_path):
    knobs = Toybirds(n_train=40, n_val=4, n_test=4)
    for name, workers in (("one", 1), ("two", 2)):
        knobs.generate(tmp_path / name, workers=workers)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    Toybirds(n_train=40, n_val=4, n_test=4, seed=1).generate(tmp_path / "other")
    assert digest(tmp_path / "one") != digest(tmp_path / "other")


def test_more_training_images_leave_validation_and_test_as_they_are(tmp_path):
    for n in (4, 8):
        Toybirds(n_train=n, n_val=4, n_test=4).generate(tmp_path / str(n))
    few, many = (sorted(p.read_bytes() for p in (tmp_path / n / "images").iterdir()) for n in "48")
    assert len(set(few) & set(many)) >= 8


def test_killed_generation_leaves_nothing_and_the_next_one_is_whole(tmp_path):
    knobs = Toybirds(n_train=8, n_val=4, n_test=4)

    def kill(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        knobs.generate(tmp_path / "data", progress=kill)
    assert not (tmp_path / "data").exists()
    (leftover,) = tmp_path.iterdir()
    (leftover / "images" / "stale.jpg").touch()
    told = []
    knobs.generate(tmp_path / "data", progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 16) for i in range(1, 17)]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert len(list((tmp_path / "data/images").iterdir())) == 16
    with pytest.raises(FileExistsError, match="data exists"):
        knobs.generate(tmp_path / "data")


def test_an_empty_range_of_fog_is_refused():
    with pytest.raises(ValueError, match=r"fog_low 0\.6 is above fog_high 0\.5"):
        Toybirds(fog_low=0.6, fog_high=0.5)


def test_names_of_classes_and_places_follow_waterbirds():
    assert CLASSES == ("landbird", "waterbird")
    assert toybirds.PLACES == ("land", "water")

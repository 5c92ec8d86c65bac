"""The shipped CLIPs of the toy birds, on birds that they have not seen, against the truth."""

import json
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy.stats import binom

from components.data.generators.toybirds import PARTS
from components.identity import rng
from components.toybirds.clip.captions import red_circle, segment_crop, whole_image
from components.toybirds.clip.scores import OF_WHOLE_IMAGES, Score, circle_localisation, scores
from components.toybirds.clip.training import load_clip
from components.toybirds.clip.views import caption, circled, crop

FOLDER = Path(__file__).parents[4] / "datasets" / "toybirds"
CHECKPOINT = f"local-dir:{FOLDER / 'clip'}"
FLOORS = {
    "attribute_beak": 0.75,
    "attribute_neck": 0.85,
    "attribute_tail": 0.75,
    "attribute_feet": 0.75,
    "attribute_wing": 0.9,
    "attribute_body": 0.95,
    "background": 0.95,
    "circled_part": 0.8,
    "circle_localisation": 0.9,
    "segment_part": 0.9,
    "segment_background": 0.85,
    "retrieval_at_1": 0.3,
}


@pytest.fixture(scope="module")
def concepts():
    return (FOLDER / "concepts.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def birds(drawn_birds):
    """Drawn from a seed that neither training nor the shipped scores use."""
    return drawn_birds(seed=99, n=60)


@pytest.fixture(scope="module")
def clip():
    return load_clip(FOLDER / "clip")


@pytest.fixture(scope="module")
def measured(clip, birds, concepts):
    return scores(clip, birds, concepts)


@pytest.fixture(scope="module")
def measured_plain(birds, concepts):
    """Of the control, which was shown neither circles nor cut-outs."""
    return scores(load_clip(FOLDER / "clip_plain"), birds.select(np.arange(30)), concepts)


def test_open_clip_prepares_images_as_in_training(clip, birds):
    _, _, prepare = open_clip.create_model_and_transforms(CHECKPOINT)
    expected = (torch.from_numpy(birds.images[0].copy()).permute(2, 0, 1) / 255 - 0.5) / 0.25
    torch.testing.assert_close(prepare(Image.fromarray(birds.images[0])), expected)
    torch.testing.assert_close(clip.pixels(birds.images[:1])[0], expected)


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_score_is_above_its_floor_and_far_above_chance(measured, birds, name):
    score = measured[name]
    assert score.value >= FLOORS[name]
    n = min(score.n, len(birds))  # decisions on one image are not independent: images count
    assert binom.sf(round(score.value * n) - 1, n, score.chance) < 1e-4


@pytest.mark.parametrize("name", OF_WHOLE_IMAGES)
def test_the_control_knows_whole_images(measured_plain, name):
    assert measured_plain[name].value >= FLOORS[name]


@pytest.mark.parametrize("name", sorted(set(FLOORS) - set(OF_WHOLE_IMAGES)))
def test_the_control_knows_neither_circles_nor_cut_outs(measured, measured_plain, name):
    assert measured_plain[name].value < measured[name].value - 0.5


@pytest.mark.parametrize(("model", "again"), [("clip", "measured"), ("clip_plain", "measured_plain")])
def test_recorded_scores_are_those_of_the_checkpoint(model, again, request):
    """Another sample of birds gives the recorded share within five standard errors."""
    measured = request.getfixturevalue(again)
    record = json.loads((FOLDER / model / "scores.json").read_text(encoding="utf-8"))
    assert set(record["scores"]) == set(measured)
    comparable = set(measured) - {"retrieval_at_1"}  # which is harder among more images
    images = measured["attribute_beak"].n
    for name in comparable:
        shipped = record["scores"][name]
        p, n = shipped["value"], measured[name].n
        # decisions within an image are not independent, so the error is taken per image
        error = np.sqrt(max(p * (1 - p), 0.02) / min(n, images))
        assert abs(measured[name].value - p) < 5 * error, name


def test_words_that_were_never_trained_carry_nothing(clip):
    weight = clip.model.token_embedding.weight
    assert not weight[clip.tokenizer.encoder["airplane</w>"]].any()
    assert weight[clip.tokenizer.encoder["beak</w>"]].any()


class Oracle:
    """Knows where the circle of an image is and what the texts mean: answers right by design."""

    def __init__(self, birds, i, right):
        self.birds, self.i, self.right = birds, i, right

    def embed_squares(self, squares):
        """The circle's centre as a one-hot position."""
        changed = (squares != self.birds.images[self.i]).any(-1)
        centres = [np.argwhere(c).mean(0).round().astype(int) for c in changed]
        return np.stack([np.eye(64)[y][:, None] * np.eye(64)[x] for y, x in centres]).reshape(-1, 4096)

    def embed_texts(self, texts):
        """Pixels of the named part, or of everything else."""
        parts, shown = self.birds.parts[self.i], self.birds.shown[self.i]
        by_phrase = {phrase: part for part, phrase in shown.items()}
        masks = np.stack([parts == PARTS.index(by_phrase[text]) + 1 for text in texts])
        far = np.stack([_distance(mask) for mask in masks]).reshape(len(texts), -1)
        return -far if self.right else far


def _distance(mask):
    y, x = np.argwhere(mask).T
    rows, columns = np.mgrid[0:64, 0:64]
    return np.hypot(rows[..., None] - y, columns[..., None] - x).min(-1)


def test_localisation_is_one_for_an_oracle_and_zero_for_its_opposite(birds):
    one = birds.select(np.array([5]))
    assert circle_localisation(Oracle(one, 0, right=True), one).value == 1
    assert circle_localisation(Oracle(one, 0, right=False), one).value == 0


def test_a_clip_without_knowledge_scores_by_chance(birds, concepts):
    class Noise:
        def __init__(self):
            self.random = rng(0, "noise")

        def embed_squares(self, squares):
            return self.random.standard_normal((len(squares), 64))

        def embed_texts(self, texts):
            return self.random.standard_normal((len(texts), 64))

    for name, score in scores(Noise(), birds, concepts).items():
        assert isinstance(score, Score)
        spread = 5 * np.sqrt(score.chance * (1 - score.chance) / min(score.n, len(birds)))
        assert abs(score.value - score.chance) < spread + 1 / score.n, name


def test_circle_is_red_and_leaves_the_rest_as_it_is():
    grey = np.full((64, 64, 3), 100, np.uint8)
    image = circled(grey, 30, 20, 8)
    y, x = np.nonzero((image != grey).any(-1))
    assert (image[y, x] == (255, 0, 0)).all()
    distance = np.hypot(x - 30, y - 20)
    assert (np.abs(distance - 8) < 1).all()
    assert len(y) > 2 * np.pi * 8 * 0.8


def test_captions_say_only_what_is_shown(birds, concepts):
    """Every concept of the vocabulary occurs in captions, and none that the image does not show."""
    spoken = set()
    random = rng(0, "captions")
    for sample in (whole_image, red_circle, segment_crop):
        for i in range(len(birds)):
            example = sample(birds, i, random)
            assert example.says <= example.shows
            in_words = {c for c in concepts if re.search(rf"\b{c}\b", example.text)}
            true = set(birds.shown[i].values())
            assert in_words <= true
            spoken |= in_words
    assert spoken == set(concepts)


def test_full_caption_names_every_part(birds):
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    for shown in birds.shown:
        text = caption(shown)
        assert all(phrase in text for part, phrase in shown.items() if part != "head")
        assert int((tokenizer([text]) > 0).sum()) <= 32  # nothing is cut off


def test_crop_of_a_part_holds_its_colours(birds):
    wing = PARTS.index("wing") + 1
    piece = crop(birds.images[0], birds.parts[0] == wing)
    assert piece.shape == (64, 64, 3)
    inside = birds.images[0][birds.parts[0] == wing].mean(0)
    assert np.abs(piece[28:36, 28:36].mean((0, 1)) - inside).max() < 60

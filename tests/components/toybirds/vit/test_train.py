"""The shipped transformer of the toy birds, on birds that it has not seen."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from components.data.generators.toybirds import TYPICAL
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import to_pixels
from components.toybirds.vit.train import accuracy, labels_of, pretrain

FOLDER = Path(__file__).parents[4] / "datasets" / "toybirds" / "vit"
CHECKPOINT = str(FOLDER / "model.safetensors")


@pytest.fixture(scope="module")
def birds(drawn_birds):
    """Drawn from a seed that neither training nor the shipped score uses."""
    return drawn_birds(seed=98, n=400)


@pytest.fixture(scope="module")
def network():
    return SmallVit(checkpoint=CHECKPOINT).build(None, 64, seed=0).eval()


def test_it_names_classes_as_often_as_recorded(network, birds):
    """Another sample of birds gives the recorded share within four standard errors, far above one half."""
    record = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
    p = record["accuracy"]
    assert p > 0.9
    error = np.sqrt(p * (1 - p) * (1 / len(birds) + 1 / record["n"]))
    assert abs(accuracy(network, birds) - p) < 4 * error


@pytest.mark.parametrize("part", ["neck", "tail", "feet"])  # a beak is a few pixels: not learnt
def test_its_features_tell_the_parts_that_decide_the_class(network, birds, part):
    """A logistic regression on features reads a part off birds that it was not fitted on, also where the part
    is not that of the bird's class, and a guess from the class would be wrong."""
    features = network.features(to_pixels(birds.images, "cpu")).detach().numpy()
    is_landbird = labels_of(birds) == 0
    has = np.array([shown[part].startswith(TYPICAL[part][0]) for shown in birds.shown])
    unusual = has != is_landbird
    right = cross_val_predict(LogisticRegression(max_iter=1000), features, has, cv=5) == has
    assert right.mean() > 0.8
    assert right[unusual].mean() > 0.5


def test_pretraining_learns_the_birds_that_it_sees(birds):
    few = birds.select(np.arange(24))
    assert accuracy(pretrain(few, steps=100, seed=0), few) > 0.9


def test_the_same_seed_gives_the_same_weights(birds):
    few = birds.select(np.arange(8))
    first, second = (pretrain(few, steps=2, seed=3).state_dict() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)

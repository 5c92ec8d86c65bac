import numpy as np
import pytest

from components.data.card import load_card
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.training.recipe import Recipe
from components.studies.baselines.methods.standard import Standard
from tests.world import draw_waterbirds, run_stages

CARD = load_card("toybirds").model_copy(update={"image_size": 32})


@pytest.fixture(scope="module")
def method():
    recipe = Recipe(epochs=15, batch_size=16, learning_rate=1e-2)
    return Standard(backbone=SmallCnn(width=4), recipe=recipe)


@pytest.fixture(scope="module")
def data(method, tmp_path_factory):
    root = draw_waterbirds(tmp_path_factory.mktemp("data"), per_group=10, side=32)
    index = WaterbirdsCsv().read(root, CARD)
    broken = index.path(int(np.flatnonzero(index.splits == "test")[0]))
    broken.write_bytes(b"not an image")
    return run_stages(method.stages(CARD, 0), CARD, index, tmp_path_factory.mktemp("columns"))


def test_it_is_the_evaluation_of_the_classifiers_logits(method, data):
    test = data.split("test")
    usable = data.usable(test.ids)
    assert (~usable).sum() == 1
    state = data.tensors("classifier")
    features = data["logits"].array("features", test.ids[usable])
    predicted = (features @ state["head.weight"].T + state["head.bias"]).argmax(axis=1)
    right = np.zeros(len(test.ids))
    right[usable] = predicted == test.labels[usable]
    metrics = method.evaluate(method.fit(data, 0, lambda step, **m: None), data)
    found = {(m.name, m.group): m.value for m in metrics if m.split == "test"}
    assert found["average_accuracy", "all"] == pytest.approx(right.mean())
    for group, name in enumerate(data.index.group_names):
        assert found["group_accuracy", name] == pytest.approx(right[test.groups == group].mean())
    assert found["average_accuracy", "all"] > 0.85

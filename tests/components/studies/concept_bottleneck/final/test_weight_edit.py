"""LF-CBM's weight edit: what its formula promises, in float64."""

import numpy as np
import pytest

from components.studies.concept_bottleneck.final.weight_edit import corrected_and_broken, edit_weight


@pytest.mark.parametrize("seed", range(5))
def test_after_the_edit_the_class_is_ahead_by_the_margin(seed):
    stream = np.random.default_rng(seed)
    weight, bias, concepts = (stream.standard_normal(shape) for shape in ((4, 6), 4, 6))
    order = np.argsort(concepts @ weight.T + bias)
    label = int(order[0])
    edit = edit_weight(weight, bias, concepts, label, concept=seed, margin=0.3)
    logits = concepts @ edit.weight.T + bias
    assert logits[label] - logits[order[-1]] == pytest.approx(0.3)
    assert edit.predicted == order[-1]
    changed = np.argwhere(edit.weight != weight).tolist()
    assert changed == sorted([[label, seed], [int(order[-1]), seed]])
    np.testing.assert_allclose(edit.weight.sum(axis=0), weight.sum(axis=0))


def test_what_cannot_be_edited_is_said():
    weight, bias = np.eye(2), np.zeros(2)
    with pytest.raises(ValueError, match="nothing to edit"):
        edit_weight(weight, bias, np.array([1.0, 0.0]), label=0, concept=0)
    with pytest.raises(ValueError, match="at its average"):
        edit_weight(weight, bias, np.array([1.0, 0.0]), label=1, concept=1)


def test_corrected_and_broken_images_are_counted():
    before, after, labels = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 0, 0])
    assert corrected_and_broken(before, after, labels) == (1, 1)

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy.stats import chisquare

from components.models.training.group_objectives import objective_of
from components.models.training.recipe import Recipe

GROUPS = np.repeat([0, 1, 2, 4], [60, 25, 1, 14])  # training has no image of group 3
LABELS = GROUPS % 2


def objective(kind, **knobs):
    return objective_of(LABELS, GROUPS, Recipe(objective=kind, **knobs), "cpu")


def losses_of(logits, rows):
    """Cross-entropies of a batch in float64."""
    z = logits.double().numpy()
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(rows)), LABELS[rows]]


def batches(n):
    stream = np.random.default_rng(0)
    for _ in range(n):
        rows = stream.choice(len(GROUPS), 8)
        yield torch.from_numpy(stream.normal(size=(8, 2)).astype(np.float32) * 3), rows


def test_erm_is_the_mean_over_images_in_a_permutation():
    erm = objective("erm")
    for logits, rows in batches(3):
        assert float(erm.loss(logits, rows)) == pytest.approx(losses_of(logits, rows).mean(), rel=1e-5)
    expected = np.random.default_rng(5).permutation(len(GROUPS))
    np.testing.assert_array_equal(erm.order(np.random.default_rng(5)), expected)


@pytest.mark.parametrize("kind", ["group_balanced", "group_dro"])
def test_every_group_of_training_is_drawn_equally_often_and_every_image_of_a_group(kind):
    balanced, stream = objective(kind), np.random.default_rng(1)
    rows = np.concatenate([balanced.order(stream) for _ in range(400)])
    assert len(rows) == 400 * len(GROUPS)
    groups = np.bincount(GROUPS[rows])
    assert groups[3] == 0
    assert chisquare(groups[groups > 0]).pvalue > 1e-3
    assert chisquare(np.bincount(rows[GROUPS[rows] == 1])[60:]).pvalue > 1e-3


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_group_dro_against_algorithm_1_in_float64(adjustment):
    dro = objective("group_dro", group_step=0.3, group_adjustment=adjustment)
    sizes = {0: 60, 1: 25, 2: 1, 4: 14}
    q = dict.fromkeys(sizes, 1 / 4)
    for logits, rows in batches(30):
        each = losses_of(logits, rows)
        means = {group: each[GROUPS[rows] == group].mean() for group in set(GROUPS[rows].tolist())}
        for group, mean in means.items():
            q[group] *= np.exp(0.3 * (mean + adjustment / np.sqrt(sizes[group])))
        total = sum(q.values())
        q = {group: value / total for group, value in q.items()}
        expected = sum(q[group] * mean for group, mean in means.items())
        assert float(dro.loss(logits, rows)) == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(dro.weights[[0, 1, 2, 4]], list(q.values()), rtol=1e-4)
        assert dro.weights[3] == 0


def test_its_gradient_is_that_of_the_weighted_loss_with_the_weights_held():
    dro = objective("group_dro", group_step=0.5, group_adjustment=1.0)
    for logits, rows in batches(2):
        logits.requires_grad_(True)
        dro.loss(logits, rows).backward()
        share = torch.softmax(logits.detach(), 1) - torch.nn.functional.one_hot(
            torch.from_numpy(LABELS[rows])
        )
        counts = np.bincount(GROUPS[rows], minlength=5)[GROUPS[rows]]
        scale = dro.weights[GROUPS[rows]] / torch.from_numpy(counts)
        np.testing.assert_allclose(logits.grad, share * scale[:, None], atol=1e-6)


def test_a_huge_step_puts_all_weight_on_the_worst_group_and_stays_finite():
    dro = objective("group_dro", group_step=1e6)
    rows = np.array([0, 60, 85, 86])
    logits = torch.tensor([[3.0, 0], [3, 0], [3, 0], [3, 0]])  # wrong for group 1 alone
    for _ in range(3):
        assert float(dro.loss(logits, rows)) == pytest.approx(losses_of(logits, rows)[1], rel=1e-6)
    np.testing.assert_array_equal(dro.weights, [0, 1, 0, 0, 0])


@pytest.mark.parametrize("knobs", [{"group_step": 0.1}, {"group_adjustment": 1.0}])
def test_knobs_of_group_dro_need_it(knobs):
    for kind in ("erm", "group_balanced"):
        with pytest.raises(ValidationError, match="need objective: group_dro"):
            TypeAdapter(Recipe).validate_python({"objective": kind, **knobs})
    assert Recipe(objective="group_dro", **knobs)

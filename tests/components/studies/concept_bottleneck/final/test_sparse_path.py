import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from components.studies.concept_bottleneck.final import (
    loss as sparse_linear_loss,
)
from components.studies.concept_bottleneck.final import (
    newton as sparse_linear_newton,
)
from components.studies.concept_bottleneck.final.sparse_path import (
    SparseFit,
    elastic_net_path,
    lambda_max,
    truncate,
)

ALPHA = 0.99


def images(seed, n, m, n_classes, dtype=np.float64):
    """Standardised correlated features, labels that depend on a few of them, every class present."""
    stream = np.random.default_rng(seed)
    x = stream.standard_normal((n, m)) @ (np.eye(m) + 0.3 * stream.standard_normal((m, m)) / np.sqrt(m))
    truth = stream.standard_normal((n_classes, m)) * (stream.random((n_classes, m)) < 0.3)
    y = (x @ truth.T + stream.gumbel(size=(n, n_classes))).argmax(axis=1)
    y[: min(n, n_classes)] = np.arange(min(n, n_classes))
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    return x.astype(dtype), y.astype(np.int64)


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def objective(x, y, weight, bias, lambda_sparse, alpha=ALPHA):
    """docs/methods/concept_bottlenecks.md, eq. 13, term by term."""
    x, weight, bias = x.astype(float), weight.astype(float), bias.astype(float)
    z = x @ weight.T + bias
    z = z - z.max(axis=1, keepdims=True)
    loss = (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]).mean()
    strength = lambda_sparse / alpha
    return loss + strength * (alpha * np.abs(weight).sum() + (1 - alpha) / 2 * (weight**2).sum())


def fista(x, y, n_classes, lambda_sparse, alpha=ALPHA, steps=20_000):
    """Weight and bias by accelerated proximal gradient with restarts, float64."""
    x1, onehot = np.hstack([x.astype(float), np.ones((len(x), 1))]), np.eye(n_classes)[y]
    size = 2 / np.linalg.eigvalsh(x1.T @ x1 / len(x))[-1]  # the softmax's Hessian is at most 1/2
    l1, l2 = lambda_sparse, lambda_sparse * (1 - alpha) / alpha
    w = ahead = np.zeros((n_classes, x1.shape[1]))
    momentum = 1.0
    for _ in range(steps):
        v = ahead - size * (softmax(x1 @ ahead.T) - onehot).T @ x1 / len(x)
        new = np.sign(v) * np.maximum(np.abs(v) - size * l1, 0) / (1 + size * l2)
        new[:, -1] = v[:, -1]
        if np.vdot(ahead - new, new - w) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        done = np.abs(new - w).max() < 1e-13
        w, momentum = new, following
        if done:
            break
    return w[:, :-1], w[:, -1]


def fit(x, y, n_classes, lambda_sparse, alpha=ALPHA, tolerance=1e-9) -> SparseFit:
    return elastic_net_path(x, y, n_classes, [lambda_sparse], alpha, tolerance)[0]


@pytest.mark.parametrize(
    ("n", "m", "n_classes", "share"), [(400, 20, 5, 0.05), (300, 40, 3, 0.1), (600, 30, 12, 0.2)]
)
def test_it_agrees_with_scikit_learns_saga_in_objective_and_support(n, m, n_classes, share):
    x, y = images(n, n, m, n_classes)
    lambda_sparse = share * lambda_max(x, y, n_classes)
    ours = fit(x, y, n_classes, lambda_sparse, tolerance=1e-10)
    theirs = LogisticRegression(
        solver="saga",
        l1_ratio=ALPHA,
        C=ALPHA / (lambda_sparse * n),
        tol=1e-9,
        max_iter=20_000,
        random_state=0,
    ).fit(x, y)
    assert ours.converged
    reached = objective(x, y, theirs.coef_, theirs.intercept_, lambda_sparse)
    assert ours.objective == pytest.approx(reached, rel=1e-6)
    np.testing.assert_array_equal(ours.weight != 0, theirs.coef_ != 0)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 0.99, 0.5])
def test_it_agrees_with_accelerated_proximal_gradient_for_every_alpha(alpha):
    x, y = images(1, 200, 15, 4)
    lambda_sparse = 0.03 * lambda_max(x, y, 4, alpha)
    ours = fit(x, y, 4, lambda_sparse, alpha)
    weight, bias = fista(x, y, 4, lambda_sparse, alpha)
    assert ours.converged
    assert ours.objective == pytest.approx(objective(x, y, weight, bias, lambda_sparse, alpha), rel=1e-8)
    np.testing.assert_allclose(
        softmax(x @ ours.weight.T + ours.bias), softmax(x @ weight.T + bias), atol=1e-4
    )
    if alpha < 1:  # else a feature may move all classes' weights together, where half are positive
        np.testing.assert_allclose(ours.weight, weight, atol=1e-3)
        np.testing.assert_allclose(ours.bias, bias - bias.mean(), atol=1e-3)


def test_float32_features_reach_the_float64_optimum():
    x, y = images(2, 500, 30, 6, np.float32)
    ours = fit(x, y, 6, 2e-3, tolerance=1e-5)
    weight, bias = fista(x, y, 6, 2e-3)
    assert ours.converged
    assert ours.objective == pytest.approx(objective(x, y, weight, bias, 2e-3), rel=1e-6)
    assert ours.objective == pytest.approx(objective(x, y, ours.weight, ours.bias, 2e-3), rel=1e-6)


@pytest.mark.parametrize(("alpha", "above"), [(0.99, 1e-6), (1.0, 1e-8)])
def test_float32_near_the_optimum_says_that_it_has_converged(alpha, above):
    """Of 300 images with 100 features the gap of float32 predictions stops at 6e-5 and 3e-5."""
    x, y = images(5, 300, 100, 4, np.float32)
    ours = fit(x, y, 4, 2e-3, alpha, tolerance=1e-5)
    best = fit(x.astype(np.float64), y, 4, 2e-3, alpha, tolerance=1e-6)
    reached = objective(x, y, ours.weight, ours.bias, 2e-3, alpha)
    assert reached / best.objective - 1 < above
    assert ours.objective == pytest.approx(reached, rel=1e-9)
    assert ours.objective * (1 - ours.gap) <= best.objective
    assert ours.gap <= 1e-5
    assert ours.converged


@pytest.mark.parametrize("iterations", [20, 30, 34])
def test_float32_that_is_still_above_the_optimum_says_that_it_has_not_converged(iterations):
    x, y = images(5, 300, 100, 4, np.float32)
    early = elastic_net_path(x, y, 4, [2e-3], ALPHA, 1e-6, max_iterations=iterations)[0]
    best = fit(x.astype(np.float64), y, 4, 2e-3, tolerance=1e-6).objective
    assert 2e-6 < 1 - best / early.objective <= early.gap
    assert not early.converged


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(2, 40),
    m=st.integers(1, 8),
    n_classes=st.integers(2, 5),
    share=st.floats(0.02, 1.2),
    alpha=st.sampled_from([1.0, 0.99, 0.5]),
    iterations=st.integers(0, 12),
)
def test_the_gap_bounds_how_far_the_objective_is_above_the_optimum(
    seed, n, m, n_classes, share, alpha, iterations
):
    x, y = images(seed, max(n, n_classes), m, n_classes)
    lambda_sparse = share * lambda_max(x, y, n_classes)
    early = elastic_net_path(x, y, n_classes, [lambda_sparse], alpha, 0.0, max_iterations=iterations)[0]
    best = objective(x, y, *fista(x, y, n_classes, lambda_sparse, alpha, 3000), lambda_sparse, alpha)
    assert early.objective * (1 - early.gap) <= best + 1e-12
    assert early.objective >= best - 1e-6 * best  # fista itself stops a little above the optimum


def test_a_warm_started_path_equals_single_fits():
    x, y = images(3, 300, 25, 5)
    lambdas = lambda_max(x, y, 5) * np.geomspace(1, 0.02, 8)
    path = elastic_net_path(x, y, 5, lambdas, tolerance=1e-9)
    for lambda_sparse, warm in zip(lambdas, path, strict=True):
        cold = fit(x, y, 5, float(lambda_sparse))
        assert warm.lambda_sparse == lambda_sparse
        assert warm.objective == pytest.approx(cold.objective, rel=2e-9)
        np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-3)
    assert all(np.diff([np.count_nonzero(point.weight) for point in path]) >= -1)


def test_the_optimum_does_not_depend_on_how_the_hessian_is_estimated(monkeypatch):
    x, y = images(4, 500, 20, 4)
    full = fit(x, y, 4, 2e-3)
    monkeypatch.setattr(sparse_linear_loss, "CURVATURE_ROWS", 200)
    monkeypatch.setattr(sparse_linear_loss, "ROWS", 64)
    few = fit(x, y, 4, 2e-3)
    monkeypatch.setattr("components.studies.concept_bottleneck.final.sparse_path.MAX_BLOCK_ENTRIES", 0)
    coupled = fit(x, y, 4, 2e-3)
    for other in (few, coupled):
        assert other.converged
        assert other.objective == pytest.approx(full.objective, rel=2e-9)


def test_the_same_input_gives_the_same_bits():
    x, y = images(5, 200, 12, 3, np.float32)
    first, again = (fit(x, y, 3, 1e-3, tolerance=1e-5) for _ in range(2))
    np.testing.assert_array_equal(first.weight, again.weight)
    assert (first.objective, first.gap) == (again.objective, again.gap)


def test_at_lambda_max_all_weights_are_zero_and_below_it_one_is_not():
    x, y = images(6, 150, 10, 4)
    largest = lambda_max(x, y, 4)
    onehot = np.eye(4)[y]
    assert largest == pytest.approx(np.abs(x.T @ (onehot - onehot.mean(axis=0))).max() / 150, rel=1e-12)
    above, below = elastic_net_path(x, y, 4, [largest * 1.0001, largest * 0.99], tolerance=1e-9)
    assert np.count_nonzero(above.weight) == 0
    frequency = onehot.mean(axis=0)
    np.testing.assert_allclose(softmax(above.bias[None].astype(float))[0], frequency, rtol=1e-5)
    assert above.objective == pytest.approx(-(frequency * np.log(frequency)).sum(), rel=1e-12)
    assert np.count_nonzero(below.weight) > 0


def test_a_feature_of_zero_variance_gets_no_weight():
    x, y = images(7, 150, 8, 3)
    rest = fit(x, y, 3, 1e-3)
    for value in (0.0, 2.0):
        constant = np.insert(x, 3, value, axis=1)
        with_it = fit(constant, y, 3, 1e-3)
        assert with_it.converged
        np.testing.assert_array_equal(with_it.weight[:, 3], 0)
        np.testing.assert_allclose(np.delete(with_it.weight, 3, axis=1), rest.weight, atol=1e-3)


def test_a_class_with_one_image_is_fitted_to_the_optimum():
    x, y = images(8, 120, 8, 3)
    y[y == 2] = 1
    y[5] = 2
    ours = fit(x, y, 3, 1e-3)
    assert ours.converged
    assert ours.objective == pytest.approx(objective(x, y, *fista(x, y, 3, 1e-3), 1e-3), rel=1e-7)


def test_a_class_without_images_is_never_predicted_and_changes_nothing_else():
    x, y = images(9, 120, 8, 3)
    without = fit(x, y, 3, 1e-3)
    moved = np.array([0, 2, 4])[y]
    with_gaps = fit(x, moved, 5, 1e-3)
    np.testing.assert_array_equal(with_gaps.weight[[0, 2, 4]], without.weight)
    np.testing.assert_array_equal(with_gaps.weight[[1, 3]], 0)
    assert np.isfinite(with_gaps.bias).all()
    assert softmax(x @ with_gaps.weight.T + with_gaps.bias)[:, [1, 3]].max() < 1e-20
    assert with_gaps.objective == pytest.approx(
        objective(x, moved, with_gaps.weight, with_gaps.bias, 1e-3), rel=1e-6
    )


def test_more_features_than_images_and_separable_images_have_a_certified_solution():
    x, y = images(10, 30, 80, 3)
    ours = fit(x, y, 3, 1e-3, tolerance=1e-6)
    assert ours.converged
    assert ours.objective == pytest.approx(objective(x, y, *fista(x, y, 3, 1e-3), 1e-3), rel=1e-6)


def test_duplicate_features_share_their_weight():
    x, y = images(11, 200, 6, 3)
    ours = fit(np.hstack([x, x[:, :2]]), y, 3, 1e-3, alpha=0.5)
    assert ours.converged
    np.testing.assert_allclose(ours.weight[:, 6:], ours.weight[:, :2], atol=1e-3)


def test_one_image_or_one_class_alone_has_objective_zero():
    for n in (1, 4):
        x, y = np.ones((n, 3), np.float32), np.full(n, 1)
        (ours,) = elastic_net_path(x, y, 3, [0.1])
        assert (ours.objective, ours.gap, ours.converged) == (0.0, 0.0, True)
        np.testing.assert_array_equal(ours.weight, 0)
        assert ours.bias.argmax() == 1
        assert lambda_max(x, y, 3) == 0


def test_what_did_not_converge_says_so():
    x, y = images(12, 200, 15, 4)
    ours = elastic_net_path(x, y, 4, [1e-3], max_iterations=1)[0]
    assert not ours.converged
    assert ours.gap > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambdas": [0.0]}, "positive"),
        ({"lambdas": [0.1, 0.2]}, "descending"),
        ({"alpha": 0.0}, "alpha"),
        ({"labels": np.array([0, 1, 3])}, "labels"),
        ({"labels": np.array([0, 1])}, "labels"),
        ({"features": np.full((3, 2), np.nan, np.float32)}, "finite"),
        ({"features": np.ones((0, 2), np.float32), "labels": np.zeros(0, np.int64)}, "one or more"),
    ],
)
def test_what_has_no_solution_is_refused(change, message):
    given_ = {
        "features": np.eye(3, 2, dtype=np.float32),
        "labels": np.arange(3),
        "n_classes": 3,
        "lambdas": [0.1],
    }
    with pytest.raises(ValueError, match=message):
        elastic_net_path(**{**given_, **change})


def test_truncation_keeps_the_largest_weights_of_the_whole_matrix_and_the_bias():
    weight = np.array([[3, -1, 0], [-4, 1, 2]], np.float32)
    bias = np.array([5, 6], np.float32)
    full = SparseFit(0.1, weight, bias, 1.0, 0.0, True)
    expected = {
        0: [[0, 0, 0], [0, 0, 0]],
        2: [[3, 0, 0], [-4, 0, 0]],
        4: [[3, -1, 0], [-4, 0, 2]],
        9: weight,
    }
    for n_weights, kept in expected.items():
        got, same = truncate(full, n_weights)
        np.testing.assert_array_equal(got, kept)
        np.testing.assert_array_equal(same, bias)
    np.testing.assert_array_equal(full.weight, weight)
    with pytest.raises(ValueError, match="n_weights"):
        truncate(full, -1)


def test_a_working_set_model_is_the_hessian_of_its_class(monkeypatch):
    x, y = images(13, 80, 6, 3)
    monkeypatch.setattr(sparse_linear_newton, "MOST", 1.0)
    loss = sparse_linear_loss.SoftmaxLoss(x, y, 3)
    weight = np.random.default_rng(0).standard_normal((3, 7))
    working = np.array([[1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    model = sparse_linear_newton.WorkingSetModel(loss, loss.scores(weight), working)
    step = np.random.default_rng(1).standard_normal((3, 7))
    got = model.put(model(model.take(step)))
    x1, p = np.hstack([x, np.ones((80, 1))]), softmax(x @ weight[:, :-1].T + weight[:, -1])
    for k in range(3):
        mask = np.append(working[k], True)
        hessian = (x1 * (p[:, k] * (1 - p[:, k]))[:, None]).T @ x1 / 80
        np.testing.assert_allclose(got[k], mask * (hessian @ (mask * step[k])), atol=1e-12)

"""The cubed cosine and its gradient, against the formula in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.studies.concept_bottleneck.layer import similarity as concept_similarity
from components.studies.concept_bottleneck.layer.similarity import add_gradient, cubed_cosine, similarities


def formula(q, p):
    """docs/methods/concept_bottlenecks.md, eq. 8, for one concept, in float64."""
    q, p = ((x - x.mean()) ** 3 for x in (np.float64(q), np.float64(p)))
    return q @ p / np.sqrt((q @ q) * (p @ p))


def gradient_of_formula(weight, features, images, texts):
    """d(-mean similarity)/dW by hand: the cosine's, through the cube, less its mean over the images."""
    gradient, loss = np.zeros_like(weight), 0.0
    n_places, n_concepts = len(features), len(weight)
    for x, y in zip(features, images, strict=True):
        for m in range(n_concepts):
            q, p = x @ weight[m], y @ texts[m]
            deviation = q - q.mean()
            a, b = deviation**3, (p - p.mean()) ** 3
            a_norm, b_norm = np.linalg.norm(a), np.linalg.norm(b)
            cosine = a @ b / (a_norm * b_norm)
            by_q = 3 * deviation**2 * (b / (a_norm * b_norm) - cosine * a / a_norm**2)
            gradient[m] -= (by_q - by_q.mean()) @ x / (n_places * n_concepts)
            loss -= cosine / (n_places * n_concepts)
    return gradient, loss


def example(n_places=3, n_images=40, n_concepts=5, dtype=np.float64, seed=0):
    stream = np.random.default_rng(seed)
    images = stream.standard_normal((n_places, n_images, 7))
    images /= np.linalg.norm(images, axis=-1, keepdims=True)
    parts = (
        stream.standard_normal((n_concepts, 6)),
        stream.standard_normal((n_places, n_images, 6)) + 1,
        images,
        stream.standard_normal((n_concepts, 7)),
    )
    return tuple(part.astype(dtype) for part in parts)


def gradient_of(weight, features, images, texts):
    layer = torch.from_numpy(weight).requires_grad_()
    loss = add_gradient(layer, features, images, torch.from_numpy(texts))
    return layer.grad.numpy(), loss


columns = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).standard_normal((2, 30)))


@given(columns, st.floats(0.01, 100), st.floats(-10, 10))
def test_it_is_blind_to_scale_and_offset_and_to_the_images_order(pair, scale, offset):
    q, p = map(torch.from_numpy, pair)
    found = cubed_cosine(q[:, None], p[:, None]).item()
    assert found == pytest.approx(formula(*pair), abs=1e-12)
    assert cubed_cosine(scale * q[:, None] + offset, p[:, None]).item() == pytest.approx(found, abs=1e-9)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert cubed_cosine(q[order, None], p[order, None]).item() == pytest.approx(found, abs=1e-12)
    assert cubed_cosine(q[:, None], q[:, None]).item() == pytest.approx(1)
    assert cubed_cosine(q[:, None], -q[:, None]).item() == pytest.approx(-1)


def test_it_is_not_the_cube_of_the_cosine():
    """A common offset must not count: unrelated columns score about 0."""
    stream = np.random.default_rng(0)
    q, p = (torch.from_numpy(0.25 + 0.01 * stream.standard_normal((2000, 1))) for _ in range(2))
    assert abs(cubed_cosine(q, p).item()) < 0.2
    assert torch.cosine_similarity(q, p, dim=0).pow(3).item() > 0.9


@pytest.mark.parametrize("numbers", [1, 150, 2**22], ids=["tiny blocks", "small blocks", "one block"])
def test_loss_and_gradient_are_those_of_the_formula_whatever_the_blocks(monkeypatch, numbers):
    monkeypatch.setattr(concept_similarity, "BLOCK_NUMBERS", numbers)
    parts = example()
    expected, expected_loss = gradient_of_formula(*parts)
    found, loss = gradient_of(*parts)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    weight, features, images, texts = parts
    per_concept = similarities(torch.from_numpy(weight), features, images, torch.from_numpy(texts))
    assert -per_concept.mean().item() == pytest.approx(loss, rel=1e-12)


def test_float32_and_stored_float16_stay_close():
    """CLIP's cosines vary by hundredths, so their cubes by millionths: float32 holds them."""
    weight, features, images, texts = example(n_images=500)
    images[..., 0] += 3  # what all images share
    images /= np.linalg.norm(images, axis=-1, keepdims=True)
    images = images.astype(np.float16)
    texts /= np.linalg.norm(texts, axis=-1, keepdims=True)
    expected, expected_loss = gradient_of_formula(weight, features, images.astype(np.float64), texts)
    found, loss = gradient_of(
        weight.astype(np.float32), features.astype(np.float32), images, texts.astype(np.float32)
    )
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_places_are_compared_one_by_one():
    """The mean pattern of the places, the same in all images, is worth nothing place by place and almost
    everything when images and places are one column
    (docs/methods/concept_bottlenecks.md, "Concept layer")."""
    stream = np.random.default_rng(0)
    pattern = stream.standard_normal((49, 1, 1))
    clip = pattern + 0.3 * stream.standard_normal((49, 400, 1))
    layer = pattern + 0.001 * stream.standard_normal((49, 400, 1))
    one = torch.ones(1, 1, dtype=torch.float64)
    by_place = similarities(one, layer, clip, one).item()
    together = similarities(one, layer.reshape(1, -1, 1), clip.reshape(1, -1, 1), one).item()
    assert abs(by_place) < 0.05
    assert together > 0.85


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_concept_has_similarity_0_and_no_gradient(dtype):
    weight, features, images, texts = example(dtype=dtype)
    weight[1] = 0
    texts[2] = 0
    found, loss = gradient_of(weight, features, images, texts)
    assert np.isfinite(found).all()
    assert np.isfinite(loss)
    assert (found[2] == 0).all()
    per_concept = similarities(torch.from_numpy(weight), features, images, torch.from_numpy(texts)).numpy()
    np.testing.assert_array_equal(per_concept[[1, 2]], 0)


def test_more_concepts_than_images_and_one_image():
    weight, features, images, texts = example(n_images=2, n_concepts=30)
    expected, _ = gradient_of_formula(weight, features, images, texts)
    np.testing.assert_allclose(gradient_of(weight, features, images, texts)[0], expected, atol=1e-12)
    alone = example(n_images=1)
    found, loss = gradient_of(*alone)
    assert loss == 0
    assert (found == 0).all()

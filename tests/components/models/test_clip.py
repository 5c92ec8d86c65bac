import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from components.checkpoints import MissingWeights
from components.images import decode
from components.models import clip as module
from components.models.clip import Clip

TEXTS = ("a striped cat", "the sea", "a photo of a beak")
STREAM = np.random.default_rng(0)
IMAGES = [STREAM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (40, 90), (200, 31))]


@pytest.fixture(scope="module")
def direct(tiny_clip):
    """open_clip's own model, preprocessing and tokenizer."""
    name = f"local-dir:{tiny_clip}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


@pytest.fixture(scope="module")
def model(tiny_clip):
    return Clip(checkpoint=str(tiny_clip)).load("cpu")


def encoded(direct, images):
    clip, preprocess, _ = direct
    with torch.inference_mode():
        x = clip.encode_image(torch.stack([preprocess(Image.fromarray(image)) for image in images]))
    return (x / x.norm(dim=-1, keepdim=True)).numpy()


def test_images_against_open_clip(model, direct):
    vectors = model.embed_images(IMAGES)
    np.testing.assert_allclose(vectors, encoded(direct, IMAGES), atol=1e-5)
    assert vectors.dtype == np.float32
    assert np.ptp(vectors, axis=0).max() > 1e-3


def test_photographs_against_open_clip(model, direct, test_data):
    photographs = [decode(path) for path in sorted(test_data("waterpets").glob("*.jpg"))[:3]]
    np.testing.assert_allclose(model.embed_images(photographs), encoded(direct, photographs), atol=1e-5)


def test_squares_need_no_resizing(model, direct, monkeypatch):
    squares = STREAM.integers(0, 256, (7, model.size, model.size, 3), dtype=np.uint8)
    expected = encoded(direct, squares)
    np.testing.assert_allclose(model.embed_squares(squares), expected, atol=1e-5)
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 3)
    np.testing.assert_allclose(model.embed_squares(squares), expected, atol=1e-5)


def test_no_square_gives_no_vector(model):
    before = model.images_seen
    assert model.embed_squares(np.zeros((0, model.size, model.size, 3), np.uint8)).shape == (0, 32)
    assert model.images_seen == before
    model.embed_images(IMAGES)
    assert model.images_seen == before + 3


def test_texts_against_open_clip(model, direct):
    clip, _, tokenize = direct
    with torch.inference_mode():
        x = clip.encode_text(tokenize(list(TEXTS)))
    np.testing.assert_allclose(model.embed_texts(TEXTS), x / x.norm(dim=-1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_still_of_length_one(tiny_clip, model, precision):
    half = Clip(checkpoint=str(tiny_clip), precision=precision).load("cpu")
    for exact, rough in (
        (model.embed_images(IMAGES), half.embed_images(IMAGES)),
        (model.embed_texts(TEXTS), half.embed_texts(TEXTS)),
    ):
        assert rough.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-6)
        assert (exact * rough).sum(axis=1).min() > 0.995


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "absent")):
        Clip(checkpoint="absent").load("cpu")

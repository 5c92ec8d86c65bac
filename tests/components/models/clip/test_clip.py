"""Embeddings of images and texts, against open_clip's own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from components.data.images import decode
from components.models.clip import clip as module
from components.models.clip.clip import Clip
from components.models.clip.clip_format import Preprocess
from components.stages.clip_texts import ClipTexts
from tests.components.models.clip.saved_clip import (
    IMAGES,
    PREPROCESSING,
    STREAM,
    TEXTS,
    encoded,
    opened,
    saved,
)


def test_images_against_open_clip(model, direct):
    vectors = model.embed_images(IMAGES)
    np.testing.assert_allclose(vectors, encoded(direct, IMAGES), atol=1e-5)
    assert vectors.dtype == np.float32
    assert np.ptp(vectors, axis=0).max() > 1e-3


def test_photographs_against_open_clip(model, direct, photographs):
    clip, preprocess, _ = direct
    with torch.inference_mode():
        x = clip.encode_image(torch.stack([preprocess(Image.fromarray(image)) for image in photographs]))
    expected = torch.nn.functional.normalize(x, dim=-1)
    np.testing.assert_array_equal(model.embed_images(photographs), expected)  # to the last bit


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_every_preprocessing_of_photographs_against_open_clip(tmp_path, photographs, kind):
    folder = saved(tmp_path / "clip", preprocess_cfg=PREPROCESSING[kind])
    clip, direct = Clip(checkpoint=str(folder)), opened(folder)
    prepare, model = clip.preparation(), clip.load("cpu")
    prepared = [prepare(image) for image in photographs]
    for image, square in zip(photographs, prepared, strict=True):
        pixels = Image.fromarray(image)
        for step in direct[1].transforms[:-2]:
            pixels = step(pixels)
        np.testing.assert_array_equal(square, pixels)
        assert prepare(square) is square
    vectors = model.embed_images(photographs)
    np.testing.assert_allclose(vectors, encoded(direct, photographs), atol=1e-5)
    np.testing.assert_array_equal(model.embed_images(prepared), vectors)
    assert np.ptp(vectors, axis=0).max() > 1e-3


SIDES = st.integers(1, 150)


@given(SIDES, SIDES, st.integers(1, 70), st.sampled_from(sorted(PREPROCESSING)))
def test_every_size_is_prepared_as_open_clip_does(height, width, size, kind):
    config = PreprocessCfg(size=size, **PREPROCESSING[kind])
    told = {name: getattr(config, name) for name in Preprocess.__dataclass_fields__}
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = Image.fromarray(image)
    try:
        for step in image_transform_v2(config, is_train=False).transforms[:-2]:
            pixels = step(pixels)
    except ValueError:  # `longest` leaves nothing of the shorter side
        with pytest.raises(ValueError, match="narrow"):
            Preprocess(**told)(image)
    else:
        np.testing.assert_array_equal(Preprocess(**told)(image), pixels)


def test_a_line_of_pixels_is_refused_before_it_is_blown_up():
    prepare = Preprocess(224, (0.5,) * 3, (0.5,) * 3, "bicubic", "shortest")
    assert prepare(np.full((1, 1, 3), 7, np.uint8)).tolist() == np.full((224, 224, 3), 7).tolist()
    with pytest.raises(ValueError, match="60000x1 pixels: too narrow"):
        prepare(np.zeros((1, 60_000, 3), np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_sources_of_other_modes(model, direct, photographs, tmp_path, mode):
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.fromarray(photographs[0]).convert(mode).save(path)
    clip, preprocess, _ = direct
    with torch.inference_mode():
        x = clip.encode_image(preprocess(Image.open(path).convert("RGB"))[None])[0]
    np.testing.assert_allclose(model.embed_images([decode(path)])[0], x / x.norm(), atol=1e-5)


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
def test_half_precision_is_close_and_still_of_length_one(vit, photographs, precision):
    model, half = (Clip(checkpoint=str(vit), precision=p).load("cpu") for p in ("fp32", precision))
    for exact, rough in (
        (model.embed_images(photographs), half.embed_images(photographs)),
        (model.embed_texts(TEXTS), half.embed_texts(TEXTS)),
    ):
        assert rough.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-6)
        assert (exact * rough).sum(axis=1).min() > 0.999
    clip, preprocess, _ = opened(vit, precision=f"pure_{precision}")
    pixels = torch.stack([preprocess(Image.fromarray(image)) for image in photographs])
    with torch.inference_mode():
        x = torch.nn.functional.normalize(clip.encode_image(pixels.to(half.dtype)).float(), dim=-1)
    np.testing.assert_array_equal(half.embed_images(photographs), x)


def test_precision_is_by_device(vit):
    assert Clip(checkpoint=str(vit)).load("cpu").dtype == torch.float32
    assert Clip(checkpoint=str(vit), precision="bf16").load("cpu").dtype == torch.bfloat16


def test_a_text_that_would_be_cut_is_refused(vit):
    model, (_, _, tokenize) = Clip(checkpoint=str(vit)).load("cpu"), opened(vit)
    fits, long = ("bird " * count for count in (10, 11))
    assert [int((tokenize(text, context_length=50) > 0).sum()) for text in (fits, long)] == [12, 13]
    assert model.embed_texts([fits]).shape == (1, 16)
    with pytest.raises(ValueError, match="13 tokens, more than the model's 12: 'bird bird"):
        model.embed_texts(["short", long])
    with pytest.raises(ValueError, match="no text"):
        model.embed_texts([])


def test_texts_are_encoded_in_bounded_batches_and_each_once(vit, monkeypatch):
    texts = ("a", "b", "c", "b", "a photo of a")
    templates = ("{}", "a photo of {}", "{}")
    stage = ClipTexts(clip=Clip(checkpoint=str(vit)), texts=texts, templates=templates)
    found = stage.compute(None, "cpu", print)["embedding"]
    clip, _, tokenize = opened(vit)
    for text, vector in zip(texts, found, strict=True):
        with torch.inference_mode():
            x = clip.encode_text(tokenize([t.format(text) for t in templates]), normalize=True).mean(dim=0)
        np.testing.assert_allclose(vector, x / x.norm(), atol=1e-5)
    passes = []

    def watched(self, tokens, normalize=False):
        passes.append(len(tokens))
        return encode(self, tokens, normalize)

    encode = CLIP.encode_text
    monkeypatch.setattr(CLIP, "encode_text", watched)
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", 3)
    np.testing.assert_allclose(stage.compute(None, "cpu", print)["embedding"], found, atol=1e-6)
    assert passes == [3, 3, 1]  # a, b, c; and a photo of a, b, c, a photo of a: the first is there already


@pytest.mark.parametrize("field", ["texts", "templates"])
def test_no_text_or_no_template_is_refused(vit, field):
    stage = ClipTexts(clip=Clip(checkpoint=str(vit)), **{"texts": ("a",), field: ()})
    with pytest.raises(ValueError, match="no text"):
        stage.compute(None, "cpu", print)

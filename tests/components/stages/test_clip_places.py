"""Visual prompts drawn on tensors, against Pillow's drawing and open_clip's own preprocessing."""

import json

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image, ImageDraw
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from components.data.columns import ragged_vectors
from components.data.images import decode
from components.models.clip.clip import Clip, ClipModel
from components.stage import Batch
from components.stages import clip_places as module
from components.stages.clip_images import ClipImages
from components.stages.clip_places import ClipPlaces
from tests.world import column

SIZE, GRID = 224, 7
AT = [28, 56, 84, 112, 140, 168, 196]
MODEL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIZE, "layers": 1, "width": 64, "head_width": 32, "patch_size": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = CLIP(**json.loads(json.dumps(MODEL))).state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": MODEL, "preprocess_cfg": PREPROCESS})
    )
    return folder


@pytest.fixture(scope="module")
def direct(folder):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess


@pytest.fixture(scope="module")
def photographs(test_data):
    folders = [test_data("imagenet-mini") / "images", test_data("seg-mini") / "images"]
    return [decode(path) for folder in folders for path in sorted(folder.iterdir())[:2]]


@pytest.fixture
def seen(monkeypatch):
    """What the image tower is given, pass by pass."""
    passes = []
    encode = CLIP.encode_image

    def watched(self, pixels, normalize=False):
        passes.append(pixels.clone())
        return encode(self, pixels, normalize)

    monkeypatch.setattr(CLIP, "encode_image", watched)
    return passes


def stage(folder, **knobs):
    return ClipPlaces(clip=Clip(checkpoint=str(folder)), **knobs)


def batch(images):
    return Batch([None] * len(images), images, {})


def cropped(direct, image):
    """The image as Pillow has it after open_clip's own resizing and cropping."""
    square = Image.fromarray(image)
    for step in direct[1].transforms[:-2]:
        square = step(square)
    return square


def circled(square, x, y, radius=32, width=2):
    drawn = square.copy()
    ImageDraw.Draw(drawn).ellipse(
        (x - radius, y - radius, x + radius, y + radius), outline=(255, 0, 0), width=width
    )
    return drawn


def vectors(rows):
    return ragged_vectors(pa.chunked_array([rows.columns["embedding"]]))


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1).numpy()


def test_the_drawn_tensor_is_the_drawn_image(folder, direct, photographs, seen):
    rows = stage(folder).load({}, "cpu")(batch(photographs))
    squares = [cropped(direct, image) for image in photographs]
    drawn = [circled(square, x, y) for square in squares for y in AT for x in AT]
    expected = torch.stack([direct[1](image) for image in drawn])
    np.testing.assert_allclose(torch.cat(seen), expected, atol=1e-6)
    assert rows.model_inputs == len(drawn) == sum(len(part) for part in seen) == GRID**2 * len(photographs)


def test_embeddings_are_those_of_the_drawn_images(folder, direct, photographs):
    drawn = [circled(cropped(direct, image), x, y) for image in photographs for y in AT for x in AT]
    with torch.inference_mode():
        expected = unit(direct[0].encode_image(torch.stack([direct[1](image) for image in drawn])))
    found, counts = vectors(stage(folder).load({}, "cpu")(batch(photographs)))
    assert found.dtype == np.float16
    assert counts.tolist() == [GRID**2] * len(photographs)
    # a number of float16 is half a unit of its last place off: 2^-11 of its size
    assert (np.abs(found - expected) <= 1e-5 + 2.0**-11 * np.abs(expected)).all()
    texts = np.random.default_rng(0).normal(size=(24, 100))
    texts /= np.linalg.norm(texts, axis=0)
    assert np.abs(found.astype(np.float64) @ texts - expected @ texts).max() < 5e-4
    per_place = expected.reshape(-1, GRID**2, 24)
    assert np.ptp(per_place, axis=1).max() > 1e-3


def test_embeddings_before_they_are_stored(folder, direct, photographs, monkeypatch):
    drawn = [circled(cropped(direct, image), x, y) for image in photographs for y in AT for x in AT]
    with torch.inference_mode():
        expected = unit(direct[0].encode_image(torch.stack([direct[1](image) for image in drawn])))
    found = []
    embed = ClipModel.embed_blocks
    monkeypatch.setattr(
        ClipModel, "embed_blocks", lambda self, blocks: found.append(embed(self, blocks)) or found[0]
    )
    stage(folder).load({}, "cpu")(batch(photographs))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("centres", ["fit", "cell"])
def test_other_centres_and_widths_at_the_border(folder, direct, photographs, seen, centres):
    radius, width = 37, 4
    at = {"fit": [37, 112, 186], "cell": [37, 112, 187]}[centres]  # 37, 111.5, 186; 37.3, 112, 186.7
    knobs = {"radius": radius, "line_width": width, "grid_size": 3, "centres": centres}
    stage(folder, **knobs).load({}, "cpu")(batch(photographs[:1]))
    square = cropped(direct, photographs[0])
    expected = torch.stack([direct[1](circled(square, x, y, radius, width)) for y in at for x in at])
    np.testing.assert_allclose(torch.cat(seen), expected, atol=1e-6)


def raw(pixels):
    """Normalised pixels (P, 3, S, S) as they were, 0..255, (P, S, S, 3)."""
    mean, std = (torch.tensor(PREPROCESS[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return ((pixels * std + mean) * 255).permute(0, 2, 3, 1).numpy()


def test_only_the_ring_is_touched(folder, direct, photographs, seen):
    stage(folder, grid_size=1).load({}, "cpu")(batch(photographs[:1]))
    square = np.asarray(cropped(direct, photographs[0])).astype(np.float32)
    changed = np.abs(raw(seen[0])[0] - square).max(axis=-1) > 0.5
    y, x = np.nonzero(changed)
    distances = np.hypot(y - 112, x - 112)
    assert 300 < changed.sum() <= 364
    assert distances.min() > 32 - 2.5
    assert distances.max() < 32 + 1
    np.testing.assert_allclose(
        raw(seen[0])[0][changed], np.broadcast_to([255, 0, 0], (changed.sum(), 3)), atol=1e-3
    )


def test_no_line_is_plain_clip(folder, photographs):
    rows = stage(folder, line_width=0, grid_size=3).load({}, "cpu")(batch(photographs))
    plain = ClipImages(clip=Clip(checkpoint=str(folder))).load({}, "cpu")(batch(photographs))
    expected = np.array(plain.columns["embedding"].to_pylist(), np.float32)
    found = vectors(rows)[0].reshape(len(photographs), 9, -1)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 9, axis=1), atol=2.0**-11)


def test_a_crop_is_the_circles_square_resized(folder, direct, photographs, seen):
    stage(folder, prompt="crop").load({}, "cpu")(batch(photographs[:1]))
    square = cropped(direct, photographs[0])
    spans = [(max(0, c - 32), min(SIZE, c + 33)) for c in AT]
    boxes = [(left, top, right, bottom) for top, bottom in spans for left, right in spans]
    expected = np.stack(
        [np.asarray(square.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for box in boxes]
    )
    # Pillow rounds to whole grey levels after each of its two passes
    assert np.abs(raw(torch.cat(seen)) - expected).max() < 2
    assert np.abs(raw(torch.cat(seen)) - expected).mean() < 0.4


def test_a_blur_is_sharp_inside_the_circle(folder, direct, photographs, seen):
    stage(folder, prompt="blur", grid_size=1).load({}, "cpu")(batch(photographs[:1]))
    square = np.asarray(cropped(direct, photographs[0])).astype(np.float64)
    distances = np.hypot(*(np.indices((SIZE, SIZE)) - 112))
    blurred = gaussian_filter(square, module.BLUR, mode="mirror", truncate=3, axes=(0, 1))
    view = raw(seen[0])[0]
    np.testing.assert_allclose(view[distances < 31], square[distances < 31], atol=1e-3)
    np.testing.assert_allclose(view[distances > 34], blurred[distances > 34], atol=0.6)


@pytest.mark.parametrize("prompt", ["circle", "crop", "blur"])
def test_passes_are_bounded_and_do_not_change_what_comes_out(folder, photographs, seen, monkeypatch, prompt):
    stage_map = stage(folder, prompt=prompt, grid_size=3).load({}, "cpu")
    expected = vectors(stage_map(batch(photographs)))[0]
    assert [len(part) for part in seen] == [36]
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 8)
    seen.clear()
    found, _ = vectors(stage_map(batch(photographs)))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert max(len(part) for part in seen) <= 8
    assert sum(len(part) for part in seen) == 36


def test_prepared_images_give_the_same_as_raw_ones(folder, photographs):
    places = stage(folder, grid_size=2)
    prepared = [places.preparation()(image) for image in photographs]
    stage_map = places.load({}, "cpu")
    for one, other in zip(
        vectors(stage_map(batch(photographs))), vectors(stage_map(batch(prepared))), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_an_image_of_one_pixel(folder, direct, seen):
    image = np.full((1, 1, 3), 90, np.uint8)
    rows = stage(folder).load({}, "cpu")(batch([image]))
    drawn = torch.stack([direct[1](circled(cropped(direct, image), x, y)) for y in AT for x in AT])
    np.testing.assert_allclose(torch.cat(seen), drawn, atol=1e-6)
    assert np.isfinite(vectors(rows)[0]).all()


def test_places_on_another_input_size(tiny_clip, monkeypatch):
    """The fixture's tower takes 64 pixels: the circle of radius 32 and width 2 becomes one of 9 and 1."""
    given = []
    embed = ClipModel._embed
    monkeypatch.setattr(ClipModel, "_embed", lambda self, pixels: given.append(pixels) or embed(self, pixels))
    image = np.full((64, 64, 3), 90, np.uint8)
    stage_map = stage(tiny_clip).load({}, "cpu")
    assert stage_map(batch([image])).model_inputs == 49
    for place, view in enumerate(torch.cat(given).permute(0, 2, 3, 1)):
        y, x = (8 * (i + 1) for i in divmod(place, GRID))
        np.testing.assert_array_equal(view, circled(Image.fromarray(image), x, y, 9, 1))


def test_the_column_is_read_back_as_it_was_stored(folder, photographs, tmp_path):
    rows = stage(folder, grid_size=2).load({}, "cpu")(batch(photographs))
    ids = np.arange(len(photographs))
    stored = column(tmp_path, [pa.table({"image_id": ids, **rows.columns})])
    found, counts = ragged_vectors(stored.read(ids[::-1], ["embedding"])["embedding"])
    np.testing.assert_array_equal(found.reshape(-1, 4, 24)[::-1].reshape(-1, 24), vectors(rows)[0])
    assert counts.tolist() == [4] * len(photographs)


def test_knobs_out_of_range_are_refused(folder):
    adapter = TypeAdapter(ClipPlaces)
    for knobs in (
        {"grid_size": 0},
        {"radius": 0},
        {"line_width": -1},
        {"prompt": "square"},
        {"centres": "middle"},
    ):
        with pytest.raises(ValidationError, match=next(iter(knobs))):
            adapter.validate_python({"clip": {}, **knobs})
    with pytest.raises(ValueError, match="grid_size 224 is too large"):
        stage(folder, grid_size=224).load({}, "cpu")

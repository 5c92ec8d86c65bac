"""Against `segment_anything`'s own predictor and builders, on a small SAM in the official file format."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import segment_anything
import torch
from segment_anything import SamPredictor
from torch import nn

from components.models.segmentation.box_segmenters import sam as module
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.sam import mask_logits
from components.models.segmentation.sam.sam_checkpoint import build_sam, load_sam
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from components.pixels import masks
from tests import small_sam
from tests.small_sam import boxed_photographs

STREAM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_sam.save_sam(tmp_path_factory.mktemp("sam") / "sam.pth")


@pytest.fixture(scope="module")
def segment(checkpoint):
    return Sam(checkpoint=checkpoint).load("cpu")


def predicted(image, boxes):
    """Logits (S, H, W) and predicted IoU (S,) of the library's predictor."""
    predictor = SamPredictor(small_sam.sam())
    predictor.set_image(image)
    prompts = predictor.transform.apply_boxes_torch(torch.tensor(boxes), image.shape[:2])
    logits, ious, _ = predictor.predict_torch(None, None, prompts, multimask_output=False, return_logits=True)
    return logits[:, 0].numpy(), ious[:, 0].numpy()


def check(found, image, boxes):
    logits, ious = predicted(image, boxes)
    np.testing.assert_array_equal(masks.decode(found.counts, *image.shape[:2]), logits > 0)
    np.testing.assert_allclose(found.predicted_iou, ious, atol=1e-5)
    inner, outer = ((logits > offset).sum(axis=(1, 2)) for offset in (1.0, -1.0))
    np.testing.assert_allclose(found.stability, inner / np.maximum(outer, 1), rtol=1e-6)
    assert found.predicted_iou.dtype == found.stability.dtype == np.float32


def counted_calls(monkeypatch, kind):
    """Sizes of the batches that each forward pass of a module of this kind gets."""
    calls, forward = [], kind.forward

    def counting(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        calls.append(len(output[0] if isinstance(output, tuple) else output))
        return output

    monkeypatch.setattr(kind, "forward", counting)
    return calls


def test_photographs_against_the_predictor(segment, test_data):
    for image, boxes in boxed_photographs(test_data):
        found = segment(image, boxes)
        check(found, image, boxes)
        assert len(set(found.counts)) == len(boxes) > 1
        assert np.ptp(found.stability) > 0


@pytest.mark.parametrize("size", [(1, 1), (900, 40), (40, 900), (3, 50), (128, 128)])
def test_images_of_any_shape_against_the_predictor(segment, size):
    image = STREAM.integers(0, 256, (*size, 3), dtype=np.uint8)
    check(segment(image, boxes := np.float32([[0, 0, size[1], size[0]], [0, 0, 1, 1]])), image, boxes)


def test_an_image_too_thin_for_the_library_is_an_error_and_not_a_mask(segment):
    """Its short side would have less than half a pixel: 1 x 3000 resized to a long side of 128."""
    with pytest.raises(ValueError, match="height and width must be > 0"):
        segment(np.zeros((1, 3000, 3), np.uint8), np.float32([[0, 0, 9, 1]]))


def test_a_gray_image_against_the_predictor(segment):
    image = np.full((70, 90, 3), 128, np.uint8)
    check(segment(image, boxes := np.float32([[10, 20, 60, 50]])), image, boxes)


@pytest.mark.parametrize(
    "box", [(20, 20, 20, 20), (20, 10, 20, 60), (500, 500, 600, 600), (-90, -90, -5, -5)]
)
def test_boxes_without_area_or_outside_are_prompts_as_any(segment, box):
    image = STREAM.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    check(segment(image, boxes := np.float32([box])), image, boxes)


def test_arrays_that_cannot_be_written_are_read(segment):
    image = STREAM.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    boxes = np.float32([[10, 20, 60, 50], [0, 0, 90, 70]])
    image.setflags(write=False)
    boxes.setflags(write=False)
    check(segment(image, boxes), image, boxes)


def test_no_box_takes_no_pass(segment, monkeypatch):
    calls = counted_calls(monkeypatch, segment_anything.modeling.ImageEncoderViT)
    found = segment(np.zeros((30, 40, 3), np.uint8), np.zeros((0, 4), np.float32))
    assert found.counts == []
    assert found.predicted_iou.shape == found.stability.shape == (0,)
    assert calls == []


def test_all_boxes_share_a_pass_of_the_encoder_and_one_of_the_decoder(segment, monkeypatch, test_data):
    image, boxes = boxed_photographs(test_data)[0]
    encoder = counted_calls(monkeypatch, segment_anything.modeling.ImageEncoderViT)
    decoder = counted_calls(monkeypatch, segment_anything.modeling.MaskDecoder)
    segment(image, boxes)
    assert (encoder, decoder) == ([1], [len(boxes)])


@pytest.mark.parametrize(("size", "pixels"), [((60, 80), 256 * 256), ((300, 400), 300 * 400)])
def test_many_boxes_are_taken_a_few_at_a_time(segment, monkeypatch, size, pixels):
    """In the decoder, and where the masks become as large as the image, or as the square that SAM pads it to."""
    image = STREAM.integers(0, 256, (*size, 3), dtype=np.uint8)
    boxes = np.sort(STREAM.uniform(0, 60, (8, 2, 2)), axis=1).reshape(8, 4).astype(np.float32)
    whole = segment(image, boxes)
    monkeypatch.setattr(module, "BOXES_AT_ONCE", 3)
    monkeypatch.setattr(mask_logits, "PIXELS_AT_ONCE", 2 * pixels + 7)
    decoder = counted_calls(monkeypatch, segment_anything.modeling.MaskDecoder)
    encode, at_once = masks.encode, []
    monkeypatch.setattr(masks, "encode", lambda found: at_once.append(len(found)) or encode(found))
    parts = segment(image, boxes)
    assert decoder == [3, 3, 2]
    assert at_once == [2, 2, 2, 2]
    np.testing.assert_allclose(parts.predicted_iou, whole.predicted_iou, atol=1e-5)
    np.testing.assert_allclose(parts.stability, whole.stability, atol=1e-3)
    a, b = (masks.decode(found.counts, *size) for found in (parts, whole))
    assert (a != b).mean() < 1e-3


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.5), ("fp16", 0.8)])
def test_half_precision_gives_nearly_the_same_masks(checkpoint, segment, test_data, precision, least):
    """Random weights magnify every rounding."""
    half = Sam(checkpoint=checkpoint, precision=precision).load("cpu")
    overlaps = []
    for image, boxes in boxed_photographs(test_data):
        found = half(image, boxes)
        a, b = (masks.decode(f.counts, *image.shape[:2]) for f in (found, segment(image, boxes)))
        overlaps += list((a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2)))
    assert least < np.mean(overlaps) < 1
    assert found.predicted_iou.dtype == np.float32


def test_coordinates_of_prompts_keep_float32(checkpoint, tmp_path):
    model = load_sam(tmp_path / checkpoint, "cpu", torch.bfloat16)
    assert {p.dtype for p in model.prompt_encoder.state_dict().values()} == {torch.float32}
    assert {p.dtype for p in model.image_encoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.mask_decoder.parameters()} == {torch.bfloat16}


def knobs(model):
    """Everything plain that any of the modules holds, and the shapes of its tensors."""
    plain = (bool, int, float, str, tuple)
    own = {
        (name, key): value
        for name, part in model.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, plain)
    }
    return own, repr(model), {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_the_official_architectures_are_told_by_their_shapes(name):
    with torch.device("meta"):
        official = segment_anything.sam_model_registry[name]()
        ours = build_sam(official.state_dict()).eval()
    assert knobs(ours) == knobs(official)
    assert sum(value.numel() for value in ours.parameters()) > 9e7


def test_the_small_architecture_is_told_too(checkpoint, tmp_path):
    ours, theirs = load_sam(tmp_path / checkpoint, "cpu", torch.float32), small_sam.sam()
    assert knobs(ours) == knobs(theirs)
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())
    assert torch.equal(ours.pixel_mean, theirs.pixel_mean)
    assert torch.equal(ours.pixel_std, theirs.pixel_std)


def test_loading_leaves_the_stream_of_random_numbers_alone(checkpoint):
    before = torch.get_rng_state()
    Sam(checkpoint=checkpoint).load("cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "sam_vit_b_01ec64.pth")):
        Sam().load("cpu")


def variant(checkpoint, change):
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    return state


WRONG = {
    "of another network": (
        lambda state: (state.clear(), state.update(nn.Linear(2, 2).state_dict())),
        "not of a SAM",
    ),
    "of SAM-HQ": (
        lambda state: state.update({"mask_decoder.hf_token.weight": torch.zeros(1, 32)}),
        "1 tensors unknown .mask_decoder.hf_token",
    ),
    "with a part missing": (
        lambda state: state.pop("mask_decoder.iou_token.weight"),
        "1 tensors missing .mask_decoder.iou_token",
    ),
    "without relative positions": (
        lambda state: [state.pop(name) for name in list(state) if "rel_pos" in name],
        "not of a SAM.*rel_pos",
    ),
    "of two kinds": (
        lambda state: state.update({"mask_decoder.iou_token.weight": torch.zeros(1, 5)}),
        "1 tensors of another shape",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_weights_of_another_architecture_are_refused(checkpoint, tmp_path, kind):
    change, message = WRONG[kind]
    torch.save(variant(checkpoint, change), tmp_path / "other.pth")
    with pytest.raises(WrongWeights, match=message):
        Sam(checkpoint=str(tmp_path / "other.pth")).load("cpu")


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_broken_files_and_files_with_code_are_refused(checkpoint, tmp_path):
    (tmp_path / "short.pth").write_bytes(Path(checkpoint).read_bytes()[:5000])
    torch.save({"a": Code(tmp_path / "ran")}, tmp_path / "code.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    for name in ("short", "code", "pickle"):
        with pytest.raises(WrongWeights, match=f"{name}.pth"):
            Sam(checkpoint=str(tmp_path / f"{name}.pth")).load("cpu")
    assert not (tmp_path / "ran").exists()

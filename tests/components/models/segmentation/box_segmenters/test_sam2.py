"""Against transformers' own processor, model and post-processing, on a small SAM 2 in their format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2Model, Sam2Processor
from transformers.models.sam2.modeling_sam2 import Sam2MaskDecoder, Sam2VisionModel

from components.models.segmentation.box_segmenters import sam2 as module
from components.models.segmentation.box_segmenters.sam2 import Sam2
from components.models.segmentation.sam.sam2_checkpoint import load_sam2
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from components.models.weights.precision import dtype_of
from components.pixels import masks
from tests import small_sam
from tests.half_precision import require_attention
from tests.small_sam import boxed_photographs

STREAM = np.random.default_rng(0)


@pytest.fixture(scope="module", params=["of images", "of videos"])
def folder(request, tmp_path_factory):
    return small_sam.save_sam2(tmp_path_factory.mktemp("sam2"), video=request.param == "of videos")


@pytest.fixture(scope="module")
def segment(folder):
    return Sam2(checkpoint=folder).load("cpu")


def predicted(folder, image, boxes):
    """Logits (S, H, W) and predicted IoU (S,) as the library's documentation gets them."""
    model, processor = Sam2Model.from_pretrained(folder).eval(), Sam2Processor.from_pretrained(folder)
    told = processor(
        images=image, input_boxes=[boxes.tolist()], input_data_format="channels_last", return_tensors="pt"
    )
    with torch.inference_mode():
        output = model(**{k: v for k, v in told.items() if k != "original_sizes"}, multimask_output=False)
    logits = processor.post_process_masks(output.pred_masks, told["original_sizes"], binarize=False)[0]
    return logits[:, 0].numpy(), output.iou_scores[0, :, 0].numpy()


def check(folder, found, image, boxes):
    logits, ious = predicted(folder, image, boxes)
    np.testing.assert_array_equal(masks.decode(found.counts, *image.shape[:2]), logits > 0)
    np.testing.assert_allclose(found.predicted_iou, ious, atol=1e-5)
    inner, outer = ((logits > offset).sum(axis=(1, 2)) for offset in (1.0, -1.0))
    np.testing.assert_allclose(found.stability, inner / np.maximum(outer, 1), rtol=1e-6)


def test_photographs_against_the_library(folder, segment, test_data):
    for image, boxes in boxed_photographs(test_data):
        image = image.copy()
        found = segment(image, boxes)
        check(folder, found, image, boxes)
        assert len(set(found.counts)) == len(boxes) > 1


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (1, 50), (900, 40), (40, 900)])
def test_images_of_any_shape_against_the_library(folder, segment, size):
    """Also those whose first axis could be mistaken for colours."""
    image = STREAM.integers(0, 256, (*size, 3), dtype=np.uint8)
    boxes = np.float32([[0, 0, size[1], size[0]], [0, 0, 0, 0], [-70, 0, -60, 9]])
    check(folder, segment(image, boxes), image, boxes)


def test_arrays_that_cannot_be_written_are_read(folder, segment, recwarn):
    image = STREAM.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    boxes = np.float32([[10, 20, 60, 50], [0, 0, 90, 70]])
    expected = segment(image, boxes)
    image.setflags(write=False)
    boxes.setflags(write=False)
    assert segment(image, boxes).counts == expected.counts
    assert not [w for w in recwarn if "not writable" in str(w.message)]


def test_passes_of_encoder_and_decoder(segment, monkeypatch):
    image = STREAM.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    boxes = np.sort(STREAM.uniform(0, 60, (8, 2, 2)), axis=1).reshape(8, 4).astype(np.float32)
    calls = []
    for kind in (Sam2VisionModel, Sam2MaskDecoder):
        forward = kind.forward

        def counting(self, *args, forward=forward, **kwargs):
            calls.append(type(self).__name__)
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(kind, "forward", counting)
    nothing = segment(image, boxes[:0])
    assert (nothing.counts, calls) == ([], [])
    assert nothing.predicted_iou.shape == nothing.stability.shape == (0,)
    whole = segment(image, boxes)
    assert calls == ["Sam2VisionModel", "Sam2MaskDecoder"]
    calls.clear()
    monkeypatch.setattr(module, "BOXES_AT_ONCE", 3)
    parts = segment(image, boxes)
    assert calls == ["Sam2VisionModel"] + 3 * ["Sam2MaskDecoder"]
    np.testing.assert_allclose(parts.predicted_iou, whole.predicted_iou, atol=1e-5)
    a, b = (masks.decode(found.counts, 60, 80) for found in (parts, whole))
    assert (a != b).mean() < 1e-3


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.5), ("fp16", 0.8)])
def test_half_precision_gives_nearly_the_same_masks(folder, segment, test_data, precision, least):
    """Random weights magnify every rounding, and the choice among the decoder's masks jumps."""
    require_attention(dtype_of(precision, "cpu"))
    half = Sam2(checkpoint=folder, precision=precision).load("cpu")
    overlaps = []
    for image, boxes in boxed_photographs(test_data):
        found = half(image, boxes)
        a, b = (masks.decode(f.counts, *image.shape[:2]) for f in (found, segment(image, boxes)))
        overlaps += list((a & b).sum(axis=(1, 2)) / np.maximum((a | b).sum(axis=(1, 2)), 1))
    assert least < np.mean(overlaps) < 1


def test_coordinates_of_prompts_keep_float32(folder, tmp_path):
    model, _ = load_sam2(tmp_path / folder, "cpu", torch.bfloat16)
    assert {p.dtype for p in model.prompt_encoder.state_dict().values()} == {torch.float32}
    assert {p.dtype for p in model.shared_image_embedding.state_dict().values()} == {torch.float32}
    assert {p.dtype for p in model.vision_encoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.mask_decoder.parameters()} == {torch.bfloat16}


def test_a_checkpoint_of_a_video_model_gives_its_model_of_images(tmp_path):
    """In the layout of the published ones, whose image processor has a file of its own; built by hand here."""
    folder = Path(small_sam.save_sam2(tmp_path, video=True))
    told = json.loads((folder / "processor_config.json").read_text())
    pixels = told.pop("image_processor") | {"image_processor_type": "Sam2ImageProcessorFast"}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    (folder / "processor_config.json").write_text(
        json.dumps(told | {"processor_class": "Sam2VideoProcessor"})
    )
    model, processor = load_sam2(folder, "cpu", torch.float32)
    by_hand = Sam2Model(Sam2Config(**small_sam.sam2_configs())).eval()
    saved = load_file(folder / "model.safetensors")
    report = by_hand.load_state_dict(
        {n: v for n, v in saved.items() if n in by_hand.state_dict()}, strict=False
    )
    assert report.missing_keys == []
    assert len(saved) > len(by_hand.state_dict()), "the memory of videos is not part of it"
    loaded = model.state_dict()
    assert loaded.keys() == by_hand.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in by_hand.state_dict().items())
    # Equal weights, but a loaded file's lie in memory as they lie in the file, and kernels for some processors
    # add up in another order where memory does not begin at a multiple of 64 bytes. So: in float64, and by
    # the largest logit, since small ones are differences of large terms.
    pixels = torch.from_numpy(STREAM.normal(size=(1, 3, small_sam.SIDE, small_sam.SIDE)))
    boxes = torch.tensor([[[10.0, 20.0, 60.0, 50.0]]], dtype=torch.float64)
    with torch.inference_mode():
        ours, theirs = (
            m.double()(pixel_values=pixels, input_boxes=boxes, multimask_output=False).pred_masks
            for m in (model, by_hand)
        )
    assert ours.dtype == torch.float64
    atol = 2**6 * torch.finfo(torch.float64).eps * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)
    assert processor.image_processor.size["height"] == processor.target_size == small_sam.SIDE


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "facebook/sam2.1-hiera-large")):
        Sam2().load("cpu")


def changed(folder, target, change):
    target = shutil.copytree(folder, target / "changed")
    state = load_file(target / "model.safetensors")
    change(state)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return Sam2(checkpoint=str(target))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mask_decoder.iou_token.weight"), "missing .mask_decoder.iou_token"),
        (lambda state: state.update({"mask_decoder.hf.weight": torch.zeros(1)}), "unknown .mask_decoder.hf"),
        (lambda state: state.update({"mask_decoder.iou_token.weight": torch.zeros(1, 5)}), "shape|size"),
    ],
)
def test_weights_of_another_architecture_are_refused(folder, tmp_path, change, message):
    with pytest.raises(WrongWeights, match=message):
        changed(folder, tmp_path, change).load("cpu")


def test_broken_folders_are_refused(folder, tmp_path):
    for number, (name, message) in enumerate(
        [("config.json", ""), ("model.safetensors", ""), ("processor_config.json", "no processor")]
    ):
        target = shutil.copytree(folder, tmp_path / str(number))
        (target / name).unlink()
        with pytest.raises(WrongWeights, match=f"weights {target}: {message}"):
            Sam2(checkpoint=str(target)).load("cpu")
    target = shutil.copytree(folder, tmp_path / "short")
    content = (target / "model.safetensors").read_bytes()
    (target / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(WrongWeights, match=f"weights {target}"):
        Sam2(checkpoint=str(target)).load("cpu")


def test_a_pickle_in_the_folder_is_not_read(folder, tmp_path):
    target = shutil.copytree(folder, tmp_path / "pickle")
    state = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    torch.save(state, target / "pytorch_model.bin")
    with pytest.raises(WrongWeights, match=f"weights {target}"):
        Sam2(checkpoint=str(target)).load("cpu")


def test_the_processor_of_the_folder_is_used(folder, tmp_path):
    """Its statistics change the pixels, so the masks: nothing of it is written into the code."""
    target = shutil.copytree(folder, tmp_path / "other")
    told = json.loads((target / "processor_config.json").read_text())
    told["image_processor"]["image_mean"] = [0.1, 0.9, 0.3]
    (target / "processor_config.json").write_text(json.dumps(told))
    image = STREAM.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    boxes = np.float32([[10, 20, 60, 50]])
    found = Sam2(checkpoint=str(target)).load("cpu")(image, boxes)
    check(str(target), found, image, boxes)
    assert found.counts != Sam2(checkpoint=folder).load("cpu")(image, boxes).counts

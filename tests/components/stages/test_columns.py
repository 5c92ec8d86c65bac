"""Each stage's map on a few images, against a direct computation."""

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from components.data.card import load_card
from components.data.columns import Data, ragged_vectors
from components.data.images import decode, resized
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import to_pixels
from components.models.segmentation.segmenters.felzenszwalb import Felzenszwalb
from components.models.segmentation.segmenters.ground_truth import GroundTruth
from components.models.segmentation.segmenters.slic import Slic
from components.models.training.recipe import Recipe
from components.models.weights.precision import with_precision
from components.pixels.crops import segment_crops
from components.stage import Batch, fixed_size_lists
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_segments import BackboneSegments
from components.stages.classifier import Classifier
from components.stages.clip_images import ClipImages
from components.stages.clip_segments import ClipSegments
from components.stages.clip_texts import ClipTexts
from components.stages.image_sizes import ImageSizes
from components.stages.segments import Segments
from components.studies.starting_network import classifier_of
from tests.world import column, draw_waterbirds, records, run_map, segment_columns

CARD = load_card("toybirds")
SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("data"), per_group=1), CARD)


@pytest.fixture(scope="module")
def batch(index):
    told = records(index)[:6]
    return Batch(told, [decode(record.path) for record in told], {})


def embeddings(rows):
    return np.array(rows.columns["embedding"].to_pylist(), np.float32)


def test_segments_are_the_segmenters_masks(batch):
    rows = Segments(segmenter=GroundTruth()).load({}, "cpu")(batch)
    table = pa.table(rows.columns)
    assert rows.model_inputs == len(batch)
    for row, record in enumerate(batch.records):
        mask = np.asarray(Image.open(record.mask)) > 0
        parts = np.asarray(Image.open(record.part_mask))
        expected = [mask, parts == 1, parts == 2, ~mask]
        assert (table["height"][row].as_py(), table["width"][row].as_py()) == (48, 48)
        assert table["area"][row].as_py() == [int(m.sum()) for m in expected]
        ys, xs = np.nonzero(mask)
        assert table["box"][row].as_py()[0] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]


def test_segmenters_cut_photographs_into_disjoint_covers(test_data):
    index = WaterbirdsCsv().read(test_data("waterpets"), load_card("waterpets"))
    told = records(index)[:3]
    batch = Batch(told, [decode(record.path) for record in told], {})
    for segmenter in (Felzenszwalb(), Slic()):
        areas = Segments(segmenter=segmenter).load({}, "cpu")(batch).columns["area"].to_pylist()
        assert [sum(of_image) for of_image in areas] == [160 * 160] * 3
        assert all(1 < len(of_image) < 100 for of_image in areas)


def test_clip_images_against_open_clip(batch, tiny_clip):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        x = model.eval().encode_image(torch.stack([preprocess(Image.fromarray(i)) for i in batch.images]))
    rows = ClipImages(clip=Clip(checkpoint=str(tiny_clip))).load({}, "cpu")(batch)
    np.testing.assert_allclose(embeddings(rows), x / x.norm(dim=1, keepdim=True), atol=1e-5)


def test_clip_texts_are_the_mean_over_templates(tiny_clip):
    texts, templates = ("beak", "long tail"), ("a photo of {}", "{}")
    clip = Clip(checkpoint=str(tiny_clip))
    found = ClipTexts(clip=clip, texts=texts, templates=templates).compute(None, "cpu", print)["embedding"]
    model = open_clip.create_model(f"local-dir:{tiny_clip}").eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    for text, vector in zip(texts, found, strict=True):
        with torch.inference_mode():
            x = model.encode_text(tokenize([t.format(text) for t in templates]), normalize=True).mean(dim=0)
        np.testing.assert_allclose(vector, x / x.norm(), atol=1e-5)
    assert found.dtype == np.float32


COUNTS = (2, 0, 1)  # segments of three images


@pytest.fixture(scope="module")
def masks():
    return [np.random.default_rng(n).random((n, 48, 48)) < 0.4 for n in COUNTS]


@pytest.fixture(scope="module")
def three(batch, masks):
    return Batch(batch.records[:3], batch.images[:3], {"segments": pa.table(segment_columns(masks))})


def check(rows, field, expected, three, stage_map):
    vectors, counts = ragged_vectors(pa.chunked_array([rows.columns[field]]))
    np.testing.assert_array_equal(counts, COUNTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    alone = stage_map(three.part(slice(2, 3))).columns[field].to_pylist()
    np.testing.assert_allclose(alone[0], expected[2:], atol=1e-5)
    assert stage_map(three.part(slice(1, 2))).columns[field].to_pylist() == [[]]


def test_clip_segments(three, masks, tiny_clip):
    model = Clip(checkpoint=str(tiny_clip)).load("cpu")
    pairs = zip(three.images, masks, strict=True)
    crops = [crop for image, m in pairs for crop in segment_crops(image, m, model.size)]
    stage = ClipSegments(clip=Clip(checkpoint=str(tiny_clip)), segments=Segments(segmenter=Slic()))
    stage_map = stage.load({}, "cpu")
    rows = stage_map(three)
    assert rows.model_inputs == 3
    check(rows, "embedding", model.embed_images(crops), three, stage_map)


@pytest.mark.parametrize(("encode", "inputs"), [("crop", 3), ("pool", 3)])
def test_backbone_segments(three, masks, encode, inputs):
    backbone = SmallCnn(width=4)
    stage = BackboneSegments(
        backbone=backbone,
        classifier=None,
        segments=Segments(segmenter=Slic()),
        image_size=48,
        encode=encode,
    )
    network = backbone.build(1, 48, seed=0).eval()
    pairs = [(image, mask) for image, m in zip(three.images, masks, strict=True) for mask in m]
    with torch.inference_mode():
        if encode == "crop":
            crops = np.stack([segment_crops(image, mask[None], 48)[0] for image, mask in pairs])
            expected = network.features(to_pixels(crops, "cpu")).numpy()
        else:
            maps = [network.spatial(to_pixels(np.stack([image]), "cpu"))[0] for image, _ in pairs]
            large = [torch.nn.Upsample(size=(48, 48))(x[None])[0].numpy() for x in maps]
            expected = np.stack([x[:, m].mean(axis=1) for x, (_, m) in zip(large, pairs, strict=True)])
    stage_map = stage.load({}, "cpu")
    rows = stage_map(three)
    assert rows.model_inputs == inputs
    check(rows, "features", expected, three, stage_map)


def prepared(stage, images):
    prepare = stage.preparation()
    return Batch([None] * len(images), [prepare(image) for image in images], {})


@pytest.mark.parametrize("frame", ["squash", "center_crop"])
def test_backbone_images_on_real_photographs(test_data, frame):
    told = sorted((test_data("imagenet-mini") / "images").iterdir())[:3]
    images = [decode(path) for path in told]
    backbone = Torchvision(architecture="squeezenet1_0", checkpoint=str(test_data(SQUEEZENET)))
    stage = BackboneImages(backbone=backbone, classifier=None, image_size=128, frame=frame)
    rows = stage.load({}, "cpu")(prepared(stage, images))
    squares = np.stack([resized(image, 128) for image in images])
    if frame == "center_crop":
        cut = Compose([Resize(128), CenterCrop(128)])
        squares = np.stack([np.asarray(cut(Image.fromarray(image))) for image in images])
    with torch.inference_mode():
        expected = backbone.build(1, 128, 0).eval().features(to_pixels(squares, "cpu")).numpy()
    found = np.array(rows.columns["features"].to_pylist())
    noise = 1e-3 if frame == "squash" else 0.02 * expected.max()  # a grey level here and there
    np.testing.assert_allclose(found, expected, atol=noise, rtol=1e-4)
    assert list(rows.columns) == ["features"]


def test_precision_is_that_of_the_backbone(batch):
    def features(precision):
        stage = BackboneImages(
            backbone=SmallCnn(width=4, precision=precision), classifier=None, image_size=48
        )
        rows = stage.load({}, "cpu")(prepared(stage, batch.images)).columns["features"]
        assert rows.type.value_type == pa.float32()
        return np.array(rows.to_pylist())

    exact, rough = features("auto"), features("bf16")
    np.testing.assert_array_equal(exact, features("fp32"))
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_a_classifier_is_the_same_on_every_device():
    """It is trained in fp32, and its identity does not hold the precision of its features."""
    stages = [
        classifier_of(CARD, SmallCnn(precision=precision), Recipe(), 0) for precision in ("auto", "bf16")
    ]
    assert stages[0] == stages[1] == with_precision(stages[0], "cuda")
    assert stages[0].backbone.precision == "fp32"


def test_image_sizes_are_those_of_the_files_and_what_cannot_be_read_fails(tmp_path):
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=1), CARD)
    for row, size in enumerate([(70, 30), (9, 1)]):
        Image.new("RGB", size).save(index.path(row))
    index.path(2).write_bytes(index.path(2).read_bytes()[:100])
    stage = ImageSizes()
    found = column(tmp_path / "c", *run_map(stage.load({}, "cpu"), index, {}, stage.preparation()))
    expected = [Image.open(index.path(row)).size[::-1] for row in range(len(index)) if row != 2]
    read = found.read(np.delete(index.image_ids, 2), ["height", "width"]).to_pydict()
    assert list(zip(read["height"], read["width"], strict=True)) == expected
    assert list(found.failures) == [int(index.image_ids[2])]


def test_a_trained_classifier_gives_its_logits(index, batch):
    backbone = SmallCnn(width=4)
    classifier = Classifier(backbone=backbone, recipe=Recipe(epochs=1), n_classes=2, image_size=48, seed=0)
    tensors = classifier.compute(Data(CARD, index), "cpu", lambda step, **metrics: None)
    stage_map = BackboneImages(backbone=backbone, classifier=classifier, image_size=48).load(
        {"classifier": tensors}, "cpu"
    )
    columns = stage_map(batch).columns
    features, logits = (np.array(columns[name].to_pylist()) for name in ("features", "logits"))
    np.testing.assert_allclose(logits, features @ tensors["head.weight"].T + tensors["head.bias"], atol=1e-5)


def test_the_same_rows_in_other_batches(index, tmp_path, tiny_clip):
    stage_map = ClipImages(clip=Clip(checkpoint=str(tiny_clip))).load({}, "cpu")
    tables, failures = run_map(stage_map, index, {})
    read = column(tmp_path, tables, failures)
    alone = [stage_map(Batch([r], [decode(r.path)], {})) for r in records(index)]
    expected = np.concatenate([embeddings(rows) for rows in alone])
    np.testing.assert_allclose(read.array("embedding", index.image_ids), expected, atol=1e-5)
    assert failures == {}


def test_fixed_size_lists_keep_their_width_without_rows():
    assert fixed_size_lists(np.zeros((0, 7), np.float32)).type.list_size == 7

import json
import pickle
import socket

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip import pretrained
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from components.data.images import decode
from components.models.clip import clip as module
from components.models.clip.clip import Clip, ClipModel
from components.models.clip.clip_format import Preprocess, read_format
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from components.stages.clip_texts import ClipTexts

TEXTS = ("a striped cat", "the sea", "a photo of a beak")
STREAM = np.random.default_rng(0)
IMAGES = [STREAM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (40, 90), (200, 31))]

VIT = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
PREPROCESSING = {
    "clip": {"mean": [0.48, 0.45, 0.40], "std": [0.26, 0.27, 0.28]},  # shortest and bicubic, unsaid
    "siglip": {**HALF, "resize_mode": "squash", "interpolation": "bicubic"},
    "bilinear": {**HALF, "resize_mode": "squash", "interpolation": "bilinear"},
    "filled": {**HALF, "resize_mode": "longest", "interpolation": "bicubic", "fill_color": 127},
}


def saved(folder, model_cfg=VIT, preprocess_cfg=PREPROCESSING["clip"], kind=CLIP):
    """A checkpoint folder of random weights."""
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = kind(**json.loads(json.dumps(model_cfg))).state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors"
    )
    configure(folder, model_cfg=model_cfg, preprocess_cfg=preprocess_cfg)
    return folder


def configure(folder, **config):
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def opened(folder, **options):
    """open_clip's own reading of a folder."""
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name, **options)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError(f"network: {arguments}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def photographs(test_data):
    """Real ones, of many sizes, landscape and portrait."""
    folders = [test_data("imagenet-mini") / "images", test_data("seg-mini") / "images"]
    images = [decode(path) for folder in folders for path in sorted(folder.iterdir())[:6]]
    assert len({image.shape[0] > image.shape[1] for image in images}) == 2
    return images


@pytest.fixture(scope="module")
def direct(tiny_clip):
    return opened(tiny_clip)


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


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("vit") / "clip")


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


def bare(folder, tmp_path, name="weights.safetensors"):
    """The weights of a folder as a single file, with no config beside it."""
    file = tmp_path / "bare" / name
    file.parent.mkdir(exist_ok=True)
    model = open_clip.create_model(f"local-dir:{folder}")
    if name.endswith(".safetensors"):
        save_file({n: value.contiguous() for n, value in model.state_dict().items()}, file)
    else:
        torch.save(model.state_dict(), file)
    return file


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_a_single_file_takes_the_config_beside_it(vit, tmp_path, name):
    file = bare(vit, tmp_path, name)
    configure(file.parent, model_cfg=VIT, preprocess_cfg=PREPROCESSING["siglip"])
    direct = opened(saved(tmp_path / "clip", preprocess_cfg=PREPROCESSING["siglip"]))
    found = Clip(checkpoint=str(file), architecture="ViT-L-14").load("cpu").embed_images(IMAGES)
    np.testing.assert_allclose(found, encoded(direct, IMAGES), atol=1e-5)


def test_a_folder_with_weights_in_the_older_name(vit, tmp_path):
    file = bare(vit, tmp_path, "open_clip_pytorch_model.bin")
    configure(file.parent, model_cfg=VIT, preprocess_cfg=PREPROCESSING["clip"])
    found = Clip(checkpoint=str(file.parent)).load("cpu").embed_images(IMAGES)
    np.testing.assert_allclose(found, encoded(opened(vit), IMAGES), atol=1e-5)


@pytest.fixture
def published(monkeypatch, tmp_path_factory):
    """Puts the small ViT into open_clip's registry, published with these preprocessings."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "conceptgrid_vit.json").write_text(json.dumps(VIT))
    open_clip.add_model_config(folder)

    def publish(*configs):
        tags = {str(n): pretrained._pcfg("https://localhost/a.pt", **c) for n, c in enumerate(configs)}
        monkeypatch.setitem(pretrained._PRETRAINED, "conceptgrid_vit", tags)
        return "conceptgrid_vit"

    return publish


def test_a_single_file_takes_the_preprocessing_that_all_published_weights_have(
    vit, tmp_path, published, offline
):
    siglip, clip = {**PREPROCESSING["siglip"], "mean": (0.5,) * 3, "std": (0.5,) * 3}, {}
    file = bare(vit, tmp_path)
    named = Clip(checkpoint=str(file), architecture=published(siglip, siglip))
    direct = opened(saved(tmp_path / "clip", preprocess_cfg=siglip))
    np.testing.assert_allclose(named.load("cpu").embed_images(IMAGES), encoded(direct, IMAGES), atol=1e-5)
    for configs, said in (
        ((siglip, clip), "2 kinds of preprocessing"),
        ((), "0 kinds of preprocessing"),
        (({**siglip, "quick_gelu": True},), "activation"),
    ):
        published(*configs)
        for use in (named.preparation, lambda: named.load("cpu")):
            with pytest.raises(
                ValueError, match=f"{file}.*{said}.*put the open_clip_config.json of these weights beside"
            ):
                use()


def test_what_is_published_of_well_known_architectures(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.touch()
    known = {name: read_format(str(file), name).preprocess for name in ("ViT-B-32", "ViT-B-16-SigLIP-384")}
    assert known["ViT-B-32"].mean == open_clip.OPENAI_DATASET_MEAN
    assert (known["ViT-B-32"].size, known["ViT-B-32"].resize_mode) == (224, "shortest")
    assert known["ViT-B-16-SigLIP-384"].mean == (0.5, 0.5, 0.5)
    assert (known["ViT-B-16-SigLIP-384"].size, known["ViT-B-16-SigLIP-384"].resize_mode) == (384, "squash")
    for name, said in (("ViT-L-14", "2 kinds"), ("RN50", "activation"), ("ViT-B-33", "close: .*ViT-B-32")):
        with pytest.raises(ValueError, match=said):
            read_format(str(file), name)
    with pytest.raises(ValueError, match="architecture"):
        read_format(str(file), None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_cfg": VIT}, "preprocessing is not said"),
        ({"preprocess_cfg": HALF}, "architecture or preprocessing is not said"),
        ({"model_cfg": VIT, "preprocess_cfg": {"mean": [0.5] * 3}}, "lacks std"),
        ({"model_cfg": {"embed_dim": 16}, "preprocess_cfg": HALF}, "lacks text_cfg, vision_cfg"),
        ({"model_cfg": VIT, "preprocess_cfg": {**HALF, "interpolation": "lanczos"}}, "lanczos"),
        ({"model_cfg": {**VIT, "vision_cfg": {"image_size": [48, 64]}}, "preprocess_cfg": HALF}, "square"),
        ({"model_cfg": {**VIT, "wings": 2}, "preprocess_cfg": HALF}, "wings"),
        (
            {"model_cfg": {**VIT, "vision_cfg": {"timm_model_name": "hf-hub:a/b"}}, "preprocess_cfg": HALF},
            "hub",
        ),
        ([], "list"),
        ("{", "is not JSON"),
    ],
)
def test_a_config_that_does_not_say_enough(vit, tmp_path, config, said, offline):
    bare(vit, tmp_path, "open_clip_model.safetensors")
    text = config if config == "{" else json.dumps(config)
    (tmp_path / "bare" / "open_clip_config.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        Clip(checkpoint=str(tmp_path / "bare")).load("cpu")


class Code:
    def __reduce__(self):
        return print, ("code in a pickle was run",)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_weights_that_are_refused(vit, tmp_path, capsys):
    wide = {**VIT, "vision_cfg": {**VIT["vision_cfg"], "width": 96}}
    file = bare(vit, tmp_path)
    configure(file.parent, model_cfg=wide, preprocess_cfg=HALF)
    with pytest.raises(WrongWeights, match="of another shape"):
        Clip(checkpoint=str(file)).load("cpu")
    configure(file.parent, model_cfg=VIT, preprocess_cfg=HALF)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WrongWeights, match="broken"):
        Clip(checkpoint=str(file)).load("cpu")
    file = file.with_name("weights.pt")
    file.write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(WrongWeights, match="refused"):
        Clip(checkpoint=str(file)).load("cpu")
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(file)
    with pytest.raises(WrongWeights):
        Clip(checkpoint=str(file)).load("cpu")
    assert capsys.readouterr().out == ""


def test_a_folder_without_weights(vit, tmp_path):
    configure(tmp_path, model_cfg=VIT, preprocess_cfg=HALF)
    with pytest.raises(MissingWeights, match=r"open_clip_model\.safetensors"):
        Clip(checkpoint=str(tmp_path)).load("cpu")


WORDS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "a": 4, "striped": 5, "cat": 6, "the": 7, "sea": 8}


def write_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)


@pytest.mark.parametrize("mode", [None, "clips"])
def test_a_tokenizer_of_its_own_lies_in_the_folder(tmp_path, offline, mode):
    text = {**VIT["text_cfg"], "hf_tokenizer_name": "somebody/words", "tokenizer_mode": mode}
    folder = saved(tmp_path / "clip", {**VIT, "custom_text": True, "text_cfg": text}, kind=named_text)
    with pytest.raises(ValueError, match=r"no tokenizer\.json of somebody/words in "):
        Clip(checkpoint=str(folder)).load("cpu")
    write_tokenizer(folder)
    if mode == "clips":
        marks = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**marks, "cls_token": "<unk>"}))
    model, (direct, _, tokenize) = Clip(checkpoint=str(folder)).load("cpu"), opened(folder)
    texts = ["a striped cat", "the sea"]
    with torch.inference_mode():
        x = direct.encode_text(tokenize(texts), normalize=True).numpy()
    np.testing.assert_allclose(model.embed_texts(texts), x, atol=1e-5)
    assert np.abs(x[0] - x[1]).max() > 1e-3
    room = 12 - (2 if mode is None else 3)
    model.embed_texts(["cat " * room])
    with pytest.raises(ValueError, match="13 tokens"):
        model.embed_texts(["cat " * (room + 1)])


def named_text(custom_text, **config):
    return CustomTextCLIP(**config)


def test_a_text_tower_of_transformers_is_built_from_the_config_in_the_folder(tmp_path, offline):
    from transformers import RobertaConfig

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    folder = tmp_path / "clip"
    RobertaConfig(vocab_size=9, max_position_embeddings=20, pad_token_id=0, **small).save_pretrained(folder)
    write_tokenizer(folder)
    text = {"context_length": 12, "hf_tokenizer_name": "roberta-base", "hf_proj_type": "mlp"}
    local = {**VIT, "text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}
    saved(folder, local, kind=CustomTextCLIP)
    model, _, tokenize = opened(folder)
    configure(
        folder,
        model_cfg={**VIT, "text_cfg": {**text, "hf_model_name": "roberta-base"}},
        preprocess_cfg=PREPROCESSING["clip"],
    )
    texts = ["a striped cat", "the sea"]
    with torch.inference_mode():
        x = model.encode_text(tokenize(texts), normalize=True)
    np.testing.assert_allclose(Clip(checkpoint=str(folder)).load("cpu").embed_texts(texts), x, atol=1e-5)


def test_loading_asks_nothing_of_the_network(tiny_clip, offline):
    assert isinstance(Clip(checkpoint=str(tiny_clip)).load("cpu"), ClipModel)


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "absent")):
        Clip(checkpoint="absent").load("cpu")

"""The formats that a CLIP is stored in, and what is refused of them."""

import json
import pickle

import numpy as np
import open_clip
import pytest
import torch
from open_clip import pretrained
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from components.models.clip.clip import Clip, ClipModel
from components.models.clip.clip_format import read_format
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from tests.components.models.clip.saved_clip import (
    HALF,
    IMAGES,
    PREPROCESSING,
    VIT,
    configure,
    encoded,
    opened,
    saved,
)


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

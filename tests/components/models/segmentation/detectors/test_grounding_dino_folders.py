"""Folders that are no GroundingDINO, and those that older versions wrote."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.models.segmentation.detector import Question
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from tests.tiny_grounding_dino import (
    CONCEPTS,
    bert_vocabulary,
    noise,
)


@pytest.fixture
def broken(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "broken")


def refused(folder, reason):
    with pytest.raises(WrongWeights, match=reason) as caught:
        GroundingDino(checkpoint=str(folder)).load("cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_folder_of_another_model_is_refused(tmp_path):
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SamConfig(
        vision_config={**small, "image_size": 64, "patch_size": 16, "output_channels": 16, "mlp_dim": 16},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64},
        mask_decoder_config={**small, "mlp_dim": 16, "iou_head_hidden_dim": 16},
    )
    SamModel(config).save_pretrained(tmp_path / "sam")
    SamProcessor(SamImageProcessor()).save_pretrained(tmp_path / "sam")
    refused(tmp_path / "sam", "not of GroundingDinoForObjectDetection: .* missing")


def test_missing_and_broken_weights_are_refused(broken):
    weights = broken / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-100], b"no header", content[:4] + b"\xff" * 8 + content[12:]):
        weights.write_bytes(damaged)
        refused(broken, "Error while deserializing header")
    weights.unlink()
    refused(broken, "no file named model.safetensors")
    torch.save({}, broken / "pytorch_model.bin")
    refused(broken, "no file named model.safetensors")


def test_weights_that_lack_a_tensor_are_refused(broken):
    state = load_file(broken / "model.safetensors")
    del state["model.text_projection.weight"]
    save_file(state, broken / "model.safetensors", {"format": "pt"})
    refused(broken, "1 tensors missing .model.text_projection.weight")


def test_a_tokenizer_of_another_model_is_refused(broken):
    """BertTokenizer of a folder without its vocabulary takes every word for unknown, without a word."""
    path = broken / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["."], vocabulary["!"] = vocabulary["!"], vocabulary["."]
    path.write_text(json.dumps(content))
    refused(broken, "vocabulary")
    path.unlink()
    refused(broken, "vocabulary")


def test_a_folder_as_older_versions_wrote_it_is_the_same(broken, detect, knobs):
    """Shared box heads under each of their names, Swin's table of relative positions, other file names."""
    state = load_file(broken / "model.safetensors")
    heads = {name: value for name, value in state.items() if name.startswith("bbox_embed.0.")}
    assert len(heads) == 6
    for name, value in heads.items():
        for alias in ("bbox_embed.1.", "model.decoder.bbox_embed.0.", "model.decoder.bbox_embed.1."):
            state[name.replace("bbox_embed.0.", alias, 1)] = value.clone()
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    assert len(tables) == 4
    for name in tables:
        state[name.replace("bias_table", "index")] = torch.zeros(16, 16, dtype=torch.int64)
    save_file(state, broken / "model.safetensors", {"format": "pt"})
    images = json.loads((broken / "processor_config.json").read_text())["image_processor"]
    (broken / "preprocessor_config.json").write_text(json.dumps(images))
    (broken / "processor_config.json").unlink()
    vocabulary = bert_vocabulary()
    (broken / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (broken / "tokenizer.json").unlink()
    question = [Question(noise(50, 60), CONCEPTS)]
    (found,) = dataclasses.replace(knobs, checkpoint=str(broken)).load("cpu")(question).detections
    (expected,) = detect(question).detections
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "IDEA-Research" / "grounding-dino-base")):
        GroundingDino().load("cpu")

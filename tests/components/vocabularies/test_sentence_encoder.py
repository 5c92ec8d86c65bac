import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import erf, softmax

from components.models.clip.clip import Clip
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from components.vocabularies.sentence_encoder import SentenceEncoder
from components.vocabularies.similarity import combined, load_encoders
from tests.tiny_mpnet import PIECES, TOKENS, write_mpnet

TEXTS = ["a wing", "a long red beak", "bird", "A Wing", "a long tail"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_mpnet(tmp_path_factory.mktemp("mpnet"))


def tokens(text):
    """WordPiece by hand, for words of the vocabulary: numbers with those that open and close."""
    return [TOKENS.index(token) for token in ("<s>", *text.lower().split(), "</s>")]


def forward(state, numbers, heads=2):
    """MPNet (Song et al. 2020) of one text without padding, in float64: token by token its last layer (T, D).

    Relative positions below 8 have a bucket each, those to the right 16 further on.
    """

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    count = len(numbers)
    assert count <= 8
    places = np.arange(count)
    offset = places[None, :] - places[:, None]  # key minus query
    bias = state["encoder.relative_attention_bias.weight"][np.where(offset > 0, 16, 0) + abs(offset)]
    x = state["embeddings.word_embeddings.weight"][numbers]
    x = x + state["embeddings.position_embeddings.weight"][2 + places]  # 1 is padding
    x = norm(x, "embeddings.LayerNorm")
    width = x.shape[1] // heads
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.attn.{name}").reshape(count, heads, width).transpose(1, 0, 2)
            for name in "qkv"
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(width) + bias.transpose(2, 0, 1)
        mixed = (softmax(scores, axis=-1) @ v).transpose(1, 0, 2).reshape(count, -1)
        x = norm(x + linear(mixed, f"{at}.attention.attn.o"), f"{at}.attention.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def test_the_mean_over_tokens_of_a_forward_by_hand_whatever_the_company(folder):
    state = {k: v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}
    expected = np.stack([forward(state, tokens(text)).mean(axis=0) for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    encoder = SentenceEncoder(str(folder), "cpu")
    found = encoder.embed(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(np.concatenate([encoder.embed([t]) for t in TEXTS]), expected, atol=2e-6)
    assert abs(expected @ expected.T)[~np.eye(5, dtype=bool)].min() < 0.9  # texts differ, but for case
    np.testing.assert_array_equal(expected[0], expected[3])


def test_more_texts_than_a_pass_takes_keep_their_order(folder, monkeypatch):
    encoder = SentenceEncoder(str(folder), "cpu")
    whole = encoder.embed(TEXTS)
    monkeypatch.setattr("components.vocabularies.sentence_encoder.TEXTS_AT_ONCE", 2)
    np.testing.assert_allclose(encoder.embed(TEXTS), whole, atol=2e-6)


def test_similarity_is_a_quarter_sentence_and_three_quarters_clip(folder, tiny_clip):
    sentences = SentenceEncoder(str(folder), "cpu").embed(TEXTS).astype(np.float64)
    clips = Clip(checkpoint=str(tiny_clip)).load("cpu").embed_texts(TEXTS).astype(np.float64)
    vectors = load_encoders(str(tiny_clip), str(folder), "cpu")(TEXTS)
    expected = (sentences @ sentences.T + 3 * clips @ clips.T) / 4
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
    one, other = np.float32([[1, 0]]), np.float32([[0, 1]])
    np.testing.assert_allclose(combined(one, one) @ combined(one, other).T, [[0.25]])
    np.testing.assert_allclose(combined(one, one) @ combined(other, one).T, [[0.75]])


def test_folders_that_are_not_there_or_not_whole_are_refused_in_one_line(folder, tmp_path):
    with pytest.raises(MissingWeights, match="weights fetch someone/mpnet"):
        SentenceEncoder("someone/mpnet", "cpu")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "tokenizer.json").unlink()
    with pytest.raises(WrongWeights, match=r"no tokenizer\.json"):
        SentenceEncoder(str(broken), "cpu")
    shutil.copy(folder / "tokenizer.json", broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(WrongWeights, match="missing") as caught:
        SentenceEncoder(str(broken), "cpu")
    assert "\n" not in str(caught.value)


def test_the_tiny_encoder_reads_words_and_spells_others(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer("a long tail").input_ids == tokens("a long tail")
    spelled = tokenizer("mane").input_ids[1:-1]
    assert spelled == [TOKENS.index("m"), *(len(TOKENS) + PIECES.index(f"##{c}") for c in "ane")]

"""The memory that one step of a concept layer's training takes, and the columns that it reads."""

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.stage import fixed_size_lists, ragged_lists
from components.studies.concept_bottleneck.layer import place_vectors
from components.studies.concept_bottleneck.layer import similarity as concept_similarity
from components.studies.concept_bottleneck.layer.similarity import add_gradient
from components.studies.concept_bottleneck.layer.training import read_pairs, top_cosines
from tests.world import column

MEGABYTE = 2**20


def anonymous_memory():
    """Bytes of this process that are no file's pages."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class Peak(threading.Thread):
    """The largest amount of anonymous memory above that at the start, in bytes."""

    def __enter__(self):
        self.before, self.largest, self.ended = anonymous_memory(), 0, threading.Event()
        self.start()
        return self

    def run(self):
        while not self.ended.wait(0.002):
            self.largest = max(self.largest, anonymous_memory() - self.before)

    def __exit__(self, *raised):
        self.ended.set()
        self.join()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_step_holds_neither_the_maps_nor_the_similarities_in_memory(tmp_path, monkeypatch):
    """The bound: some ten blocks of BLOCK_NUMBERS float32 numbers, of features, activations and gradients, or
    of the images of one place where those are more: here 1 MB each. The whole would be 150 MB."""
    n_places, n_images, width, n_concepts = 49, 8000, 32, 32
    monkeypatch.setattr(concept_similarity, "BLOCK_NUMBERS", 2**18)
    stream = np.random.default_rng(0)
    stored = []
    for name in ("features", "images"):
        array = np.memmap(tmp_path / name, np.float16, "w+", shape=(n_places, n_images, width))
        for place in array:
            place[:] = stream.standard_normal(place.shape)
        array.flush()
        stored.append(array)
    weight = torch.randn(n_concepts, width).requires_grad_()
    texts = torch.randn(n_concepts, width)
    add_gradient(weight, *(array[:1] for array in stored), texts)  # what libraries take once
    whole = 4 * n_places * n_images * (2 * width + n_concepts)
    with Peak() as peak:
        add_gradient(weight, *stored, texts)
    assert whole > 140 * MEGABYTE
    assert peak.largest < 25 * MEGABYTE


@pytest.fixture
def columns(tmp_path):
    """Maps of 6 x 6 cells and CLIP's vectors of 3 x 3 places, of 23 images, and what they were made of."""
    stream, ids = np.random.default_rng(0), np.arange(23) * 5
    maps = stream.standard_normal((23, 4, 6, 6)).astype(np.float16)
    places = stream.standard_normal((23, 9, 7)).astype(np.float16)
    shape = np.tile(np.array([4, 6, 6], np.int32), (23, 1))
    fields = {
        "maps": {"map": fixed_size_lists(maps.reshape(23, -1)), "shape": fixed_size_lists(shape)},
        "places": {"embedding": ragged_lists(fixed_size_lists(places.reshape(-1, 7)), [9] * 23)},
    }
    tables = {name: pa.table({"image_id": ids, **of}) for name, of in fields.items()}
    return {n: column(tmp_path / n, [t.slice(0, 10), t.slice(10)]) for n, t in tables.items()}, maps, places


@pytest.mark.parametrize("block_bytes", [1, 1000, 2**26])
def test_pairs_are_the_columns_place_by_place_whatever_the_blocks(
    tmp_path, monkeypatch, columns, block_bytes
):
    monkeypatch.setattr(place_vectors, "BLOCK_BYTES", block_bytes)
    stored, maps, places = columns
    rows = np.array([2, 3, 5, 11, 12, 22])
    pairs = read_pairs(stored["maps"], stored["places"], rows * 5, 3, tmp_path / "pairs")
    assert len(pairs) == 6
    resized = torch.nn.functional.interpolate(torch.from_numpy(maps[rows]).float(), (3, 3), mode="bilinear")
    by_place = resized.half().flatten(2).permute(2, 0, 1).numpy()
    np.testing.assert_array_equal(pairs.features, by_place)
    np.testing.assert_array_equal(pairs.images, places[rows].transpose(1, 0, 2))
    np.testing.assert_array_equal(pairs.rows(np.array([4, 1])).features, by_place[:, [4, 1]])
    flat = pairs.flattened()
    np.testing.assert_array_equal(flat.features[0, 6 * 4 + 2], by_place[4, 2])
    np.testing.assert_array_equal(flat.images[0, 6 * 4 + 2], places[rows[2], 4])


@pytest.mark.parametrize("numbers", [1, 2**22])
@pytest.mark.parametrize("n_images", [2, 5, 40])
def test_top_cosines_are_the_mean_of_the_five_largest(tmp_path, monkeypatch, numbers, n_images):
    monkeypatch.setattr("components.studies.concept_bottleneck.layer.training.BLOCK_NUMBERS", numbers)
    stream = np.random.default_rng(0)
    vectors, texts = (stream.standard_normal((n, 6)).astype(np.float32) for n in (n_images, 4))
    table = pa.table({"image_id": np.arange(n_images), "embedding": fixed_size_lists(vectors)})
    found = top_cosines(column(tmp_path / "c", [table]), np.arange(n_images), texts)
    expected = np.sort(vectors.astype(np.float64) @ texts.T, axis=0)[-5:].mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)

"""What the two small CLIPs are trained on, and what chooses their weights."""

from pathlib import Path

import numpy as np
import pytest

from components.identity import rng
from components.toybirds.clip.scores import OF_WHOLE_IMAGES, scores
from components.toybirds.clip.train import draw_batch, validate
from components.toybirds.clip.training import load_clip

FOLDER = Path(__file__).parents[4] / "datasets" / "toybirds"


@pytest.fixture(scope="module")
def birds(drawn_birds):
    return drawn_birds(seed=97, n=8)


def whole(images, birds):
    """Which of these images are a bird's own or its mirror image, without a mark."""
    known = {image.tobytes() for own in birds.images for image in (own, np.ascontiguousarray(own[:, ::-1]))}
    return np.array([np.ascontiguousarray(image).tobytes() in known for image in images])


@pytest.mark.parametrize(("views", "share"), [("mixed", 1 / 4), ("plain", 1)])
def test_share_of_whole_images_without_a_mark(birds, views, share):
    batch = draw_batch(birds, views, rng(0, "views"))
    assert len(batch) == 128
    assert whole([example.image for example in batch], birds).mean() == share


class Blind:
    """A CLIP that sees whole images without a mark, and of all others the same."""

    def __init__(self, clip, birds):
        self.clip, self.birds, self.model = clip, birds, clip.model

    def embed_squares(self, squares):
        seen = whole(squares, self.birds)[:, None]
        return np.where(seen, self.clip.embed_squares(squares), 0)

    def embed_texts(self, texts):
        return self.clip.embed_texts(texts)


def test_the_control_is_chosen_by_what_whole_images_show(birds):
    """Blindness for circles and cut-outs costs the control nothing, and the other nearly half of its score."""
    clip = load_clip(FOLDER / "clip")
    concepts = (FOLDER / "concepts.txt").read_text(encoding="utf-8").splitlines()
    blind = Blind(clip, birds)
    seen = scores(clip, birds, concepts)
    mean = np.mean([seen[name].value for name in OF_WHOLE_IMAGES])
    assert validate(blind, birds, concepts, "plain", 0, 0.0) == pytest.approx(mean)
    assert validate(blind, birds, concepts, "mixed", 0, 0.0) < mean - 0.2

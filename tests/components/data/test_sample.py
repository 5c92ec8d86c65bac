"""Samples of a data set, and stages that are made of them only."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.data.images import SPLITS, ImageIndex
from components.data.sample import Sample
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.segmenters.slic import Slic
from components.models.training.recipe import Recipe
from components.stage import sampled
from components.stages.backbone_segments import BackboneSegments
from components.stages.classifier import Classifier
from components.stages.clip_segments import ClipSegments
from components.stages.segments import Segments


def index(splits: list[str]) -> ImageIndex:
    n = len(splits)
    zeros = np.zeros(n, np.int64)
    return ImageIndex(
        root=Path("/data"),
        image_ids=np.arange(n) * 3 + 1,
        paths=np.array([f"{i}.jpg" for i in range(n)], dtype=object),
        labels=zeros,
        groups=zeros,
        splits=np.array(splits, dtype=object),
        classes=("a",),
        group_names=("a",),
    )


@given(st.lists(st.sampled_from(SPLITS), max_size=40), st.sampled_from(SPLITS), st.integers(1, 50))
def test_a_sample_is_of_its_split_in_order_and_a_small_one_lies_in_a_large_one(splits, split, n):
    everything = index(splits)
    small, large = (Sample(split=split, n_images=k).of(everything) for k in (n, n + 3))
    of_split = everything.image_ids[everything.splits == split]
    assert len(small) == min(n, len(of_split))
    assert set(small.image_ids) <= set(large.image_ids) <= set(of_split)
    assert (np.diff(small.image_ids) > 0).all()
    assert np.array_equal(Sample(split=split).of(everything).image_ids, of_split)


def test_a_sample_is_drawn_from_all_over_the_split():
    chosen = Sample(n_images=200).of(index(["test"] * 1000)).image_ids // 3
    assert abs(chosen.mean() - 500) < 5 * 1000 / np.sqrt(12 * 200)
    assert chosen.max() > 900


def test_a_sampled_stage_samples_the_columns_that_it_reads_and_no_training():
    classifier = Classifier(backbone=SmallCnn(), recipe=Recipe(), n_classes=2, image_size=64, seed=0)
    segments = Segments(segmenter=Slic())
    features = BackboneSegments(
        backbone=SmallCnn(), classifier=classifier, segments=segments, image_size=64, encode="crop"
    )
    sample = Sample(n_images=5)
    found = sampled(features, sample)
    assert found.sample == found.segments.sample == sample
    assert found.classifier == classifier
    assert sampled(classifier, sample) == classifier
    assert features.sample is None
    assert sampled(ClipSegments(clip=Clip(), segments=segments), sample).segments == found.segments

"""Search spaces, planning and identity, without Ray and without data on disk."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import chisquare, kstest, loguniform, uniform

from components.data.card import load_card
from components.data.fingerprint import FileHashes
from components.identity import configuration
from components.models.segmentation.segmenters.object_mask import ObjectMask
from components.stage import Stage
from components.stages.clip_images import ClipImages
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from grid.planning.plan import Plan, make_plan
from grid.planning.plan_view import show_plan
from grid.planning.planned import PlannedStage
from grid.results.report import stage_row
from grid.results.throughput import Throughput
from grid.spec.block import parse_block
from grid.spec.build import build
from grid.spec.candidates import candidates
from grid.spec.space import Range
from grid.spec.spec import Spec, SpecError, load_spec, parse_spec
from tests.grid.conftest import unread_birds

CARD = load_card("toybirds")


def spec(**content: Any) -> Spec:
    return parse_spec({"name": "t", "datasets": ["toybirds"], **content}, "t.yaml")


def methods(content: Spec) -> list[Any]:
    return [one.method for one in candidates(content, CARD).distinct]


def plan(tmp_path: Path, content: Spec, done: tuple[str, ...] = (), cached: tuple[str, ...] = ()) -> Plan:
    return make_plan(
        content,
        [unread_birds()],
        FileHashes(tmp_path / "hashes.json"),
        cached.__contains__,
        lambda ids: {i: "done" for i in ids if i in done},
        Throughput(),
        [],
    )


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["slic", "felzenszwalb", "ground_truth"]), min_size=1, max_size=3, unique=True),
)
def test_a_grid_is_the_product_of_its_lists(
    k_top: list[int], tau_iou: list[float], segmenters: list[str]
) -> None:
    block = {"method": "seg_mil_cbm", "k_top": k_top, "tau_iou": tau_iou, "segmenter": segmenters}
    found = methods(spec(methods=[block]))
    assert all(isinstance(method, SegMilCbm) for method in found)
    assert [(m.k_top, m.tau_iou, configuration(m)["segmenter"]["name"]) for m in found] == list(
        dict.fromkeys(itertools.product(k_top, tau_iou, segmenters))
    )


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "k_top": st.integers(1, 99),
            "rho_max": st.floats(0.01, 1),
            "bag_size": st.integers(1, 40),
            "lambda_concept": st.floats(0, 10),
            "target": st.sampled_from(["softmax", "zscore"]),
            "segmenter": st.builds(
                lambda n, c: {"name": "slic", "n_segments": n, "compactness": c},
                st.integers(1, 500),
                st.floats(0.1, 100),
            ),
        },
    )
)
def test_a_configuration_survives_being_written_and_read(knobs: dict[str, Any]) -> None:
    method = build(SegMilCbm, knobs, "here")
    again = build(SegMilCbm, configuration(method), "here")
    assert configuration(again) == configuration(method)
    assert (again.k_top, again.bag_size, again.target) == (method.k_top, method.bag_size, method.target)
    assert again.segmenter == method.segmenter or configuration(again.segmenter) == configuration(
        method.segmenter
    )


@given(
    st.text(max_size=12), st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers()))
)
def test_any_unknown_key_is_a_spec_error(key: str, value: Any) -> None:
    if key in {*Spec.model_fields}:
        return
    with pytest.raises(SpecError) as error:
        spec(methods=[{"method": "standard"}], **{key: value})
    assert len(str(error.value).splitlines()) == 1 or "\n" in key


def test_random_search_is_the_same_every_time_and_within_bounds() -> None:
    block = {
        "method": "seg_mil_cbm",
        "k_top": {"low": 3, "high": 15},
        "lambda_concept": {"low": 0.01, "high": 1.0, "log": True},
    }
    content = spec(methods=[block], search={"kind": "random", "trials": 40}, seeds=[0, 1])
    first, second = methods(content), methods(content)
    assert first == second
    assert len(first) == len(set(first)) == 20
    assert {m.k_top for m in first} <= set(range(3, 16))
    assert all(0.01 <= m.lambda_concept <= 1 for m in first)
    assert np.median([m.lambda_concept for m in first]) < 0.5, "drawn on the log scale"


def test_another_seed_of_the_search_is_another_sample() -> None:
    block = {"method": "seg_mil_cbm", "lambda_concept": {"low": 0.01, "high": 1.0}}
    search = {"kind": "random", "trials": 5}
    samples = [methods(spec(methods=[block], search={**search, "seed": seed})) for seed in (0, 1, 1)]
    assert not set(samples[0]) & set(samples[1])
    assert samples[1] == samples[2]


def test_values_of_a_range_have_the_law_that_it_names() -> None:
    """Against scipy's; both ends of an integer range are as likely as what lies between."""
    stream = np.random.default_rng(0)

    def drawn(**ends: Any) -> list[float]:
        return [Range(**ends).sample(stream) for _ in range(4000)]

    plain = {"low": 0.01, "high": 1.0, "integer": False}
    assert kstest(drawn(**plain, log=True), loguniform(0.01, 1.0).cdf).pvalue > 0.01
    assert kstest(drawn(**plain, log=False), uniform(0.01, 0.99).cdf).pvalue > 0.01
    assert chisquare(np.bincount(drawn(low=3, high=7, log=False, integer=True))[3:]).pvalue > 0.01


def test_a_budget_is_of_whole_configurations_on_all_data_sets() -> None:
    block = {"method": "seg_mil_cbm", "lambda_concept": {"low": 0.01, "high": 1.0}}
    search = {"kind": "random", "trials": 12}
    content = spec(methods=[block], search=search, seeds=[0, 1], datasets=["toybirds", "waterpets"])
    assert len(methods(content)) == 12 // (2 * 2)


def test_a_range_that_changes_a_stage_is_refused() -> None:
    block = {"method": "standard", "recipe": {"epochs": 3}}
    nested = {"method": "seg_mil_cbm", "segmenter": ["slic"], "k_top": {"low": 3, "high": 9}}
    candidates(spec(methods=[block, nested], search={"kind": "optuna", "trials": 4}), CARD)
    with pytest.raises(SpecError, match="unknown key"):
        parse_block({"method": "standard", "epochs": {"low": 1, "high": 2}}, 0)


def called(stage: Stage) -> str:
    """Its kind, but for the masks that diagnostics compare with."""
    return "object_masks" if getattr(stage, "segmenter", None) == ObjectMask() else stage.kind


def test_read_time_knobs_share_every_stage(tmp_path: Path) -> None:
    block = {
        "method": "seg_mil_cbm",
        "k_top": [3, 5, 10],
        "tau_min_pixels": [100, 1000],
        "tau_iou": [0.3, 0.8],
        "rho_max": [0.5, 0.9],
        "bag_size": [5, 15],
        "lambda_concept": [0, 0.1],
        "clip": {"checkpoint": "datasets/toybirds/clip"},
    }
    found = plan(tmp_path, spec(methods=[block]))
    assert len(found.trials) == 96
    kinds = [called(stage.stage) for stage in found.stages.values()]
    assert sorted(kinds) == sorted(set(kinds)), "one stage of each kind"
    assert len(kinds) == 8
    assert found.sharing_factor == 96
    assert found.as_json()["model_passes"] == 6 * 10


def test_keys_change_with_all_that_changes_content_and_with_nothing_else(tmp_path: Path) -> None:
    base = {"method": "seg_mil_cbm", "segmenter": "slic", "clip": {"checkpoint": "datasets/toybirds/clip"}}

    def keys(
        data: str = "f", seeds: tuple[int, ...] = (0,), extra: dict[str, Any] | None = None, **knobs: Any
    ) -> dict[str, str]:
        content = spec(methods=[{**base, **knobs}], seeds=list(seeds), **(extra or {}))
        hashes = FileHashes(tmp_path / "hashes.json")
        found = make_plan(
            content, [unread_birds(data)], hashes, lambda k: False, lambda i: {}, Throughput(), []
        )
        return {called(stage.stage): key for key, stage in found.stages.items()}

    first = keys()
    assert keys(extra={"resources": {"stages": {"default": {"batch_size": 7}}}}) == first
    assert keys(k_top=3, tau_iou=0.1, lambda_concept=0.7, epochs=2) == first
    changed = lambda other: {kind for kind in first if other[kind] != first[kind]}  # noqa: E731
    everything = set(first)
    assert changed(keys(data="g")) == everything - {"clip_texts"}
    assert changed(keys(seeds=(1,))) == {"classifier", "backbone_images", "backbone_segments"}
    assert changed(keys(segmenter={"name": "slic", "n_segments": 9})) == {
        "segments",
        "clip_segments",
        "backbone_segments",
    }
    assert changed(keys(template="an image of {}")) == {"clip_texts"}
    assert changed(keys(encode="pool")) == {"backbone_segments"}


def test_merging_is_a_read_time_choice_until_it_makes_new_masks(tmp_path: Path) -> None:
    block = {
        "method": "seg_mil_cbm",
        "clip": {"checkpoint": "datasets/toybirds/clip"},
        "segmenter": "slic",
        "tau_iou": [0.3, 0.5, 0.7],
    }

    def kinds(merge: list[str]) -> Counter[str]:
        found = plan(tmp_path, spec(methods=[{**block, "merge": merge}]))
        return Counter(called(stage.stage) for stage in found.stages.values())

    read_time = kinds(["keep", "mean"])
    assert set(read_time.values()) == {1}
    union = kinds(["union"])
    assert {kind: union[kind] for kind in union if union[kind] > 1} == {
        "merged_segments": 3,
        "clip_segments": 3,
        "backbone_segments": 3,
    }
    assert union["segments"] == 1


def test_precision_is_the_devices_unless_the_spec_says(tmp_path: Path) -> None:
    """Keys differ exactly where the numbers do: between fp32 on a CPU and bf16 on a GPU, not between machines."""

    def clip_images(precision: str | None, **resources: Any) -> PlannedStage:
        clip = {"checkpoint": "datasets/toybirds/clip"} | ({"precision": precision} if precision else {})
        block = {"method": "seg_mil_cbm", "segmenter": "slic", "clip": clip}
        content = spec(methods=[block], resources={"stages": {"clip_images": resources}})
        found = make_plan(
            content,
            [unread_birds()],
            FileHashes(tmp_path / "hashes.json"),
            lambda k: False,
            lambda i: {},
            Throughput(),
            [],
        )
        (stage,) = (stage for stage in found.stages.values() if stage.stage.kind == "clip_images")
        return stage

    cpu, gpu = clip_images(None), clip_images(None, num_gpus=0.5)
    assert isinstance(cpu.stage, ClipImages)
    assert isinstance(gpu.stage, ClipImages)
    assert (cpu.stage.clip.precision, gpu.stage.clip.precision) == ("fp32", "bf16")
    assert cpu.key == clip_images("fp32").key == clip_images("fp32", num_gpus=1).key
    assert gpu.key == clip_images("bf16").key != cpu.key


def test_weights_count_by_content_not_by_path(tmp_path: Path) -> None:
    content = (Path("datasets/toybirds/clip/open_clip_model.safetensors")).read_bytes()
    config = (Path("datasets/toybirds/clip/open_clip_config.json")).read_bytes()

    def keys(folder: str, weights: bytes) -> list[str]:
        path = tmp_path / folder
        path.mkdir()
        (path / "open_clip_model.safetensors").write_bytes(weights)
        (path / "open_clip_config.json").write_bytes(config)
        block = {"method": "seg_mil_cbm", "clip": {"checkpoint": str(path)}}
        return list(plan(tmp_path, spec(methods=[block])).stages)

    here, there = keys("here", content), keys("there", content)
    assert here == there
    assert (
        keys("other", content[:-1] + b"\x00" if content[-1:] != b"\x00" else content[:-1] + b"\x01") != here
    )


def test_plan_counts_done_and_cached(tmp_path: Path) -> None:
    content = spec(methods=[{"method": "standard"}], seeds=[0, 1, 2])
    fresh = plan(tmp_path, content)
    assert (fresh.budget, fresh.done, len(fresh.to_run)) == (3, 0, 3)
    one = fresh.trials[1]
    again = plan(tmp_path, content, done=(one.id,), cached=tuple(one.closure))
    assert (again.done, len(again.to_run)) == (1, 2)
    assert {s.key for s in again.needed_stages(again.to_run)} == set(fresh.stages) - one.closure
    dropped = plan(tmp_path, spec(methods=[{"method": "standard"}], on_failed="drop"))
    assert dropped.trials[0].id != fresh.trials[0].id, "dropping failures gives other numbers"


def test_the_plan_tells_a_methods_own_values(tmp_path: Path) -> None:
    method = {"method": "seg_mil_cbm", "bag_size": [3, 4], "segmenter": {"name": "grid", "cells": 5}}
    told = plan(tmp_path, spec(methods=[method])).as_json()["defaults"]
    own = configuration(SegMilCbm())
    assert told["seg_mil_cbm"]["bag_size"] == str(own["bag_size"])
    assert told["seg_mil_cbm"]["segmenter.name"] == own["segmenter"]["name"]
    assert "segmenter.cells" not in told["seg_mil_cbm"]


def test_the_plan_shows_what_is_cached_of_each_data_set(tmp_path: Path) -> None:
    other = replace(unread_birds("other"), card=load_card("waterbirds"))
    content = spec(datasets=["toybirds", "waterbirds"], methods=[{"method": "standard"}])

    def planned(cached: frozenset[str]) -> Plan:
        hashes = FileHashes(tmp_path / "h")
        return make_plan(
            content, [unread_birds(), other], hashes, cached.__contains__, lambda ids: {}, Throughput(), []
        )

    one = next(trial for trial in planned(frozenset()).trials if trial.dataset.name == "waterbirds")
    shown = StringIO()
    show_plan(planned(frozenset(one.closure)), Console(file=shown, width=120))
    rows = [line.split() for line in shown.getvalue().splitlines()]
    cached = {(row[0], row[1]): row[2:4] for row in rows if row[1:2] in (["toybirds"], ["waterbirds"])}
    assert cached == {
        (stage, data): ["1", str(int(data == "waterbirds"))]
        for stage in ("classifier", "backbone_images")
        for data in ("toybirds", "waterbirds")
    }


def test_what_is_missing_is_unresolved_and_never_cached(tmp_path: Path) -> None:
    block = {"method": "seg_mil_cbm", "clip": {"checkpoint": "not-there"}}
    found = make_plan(
        spec(methods=[block]),
        [unread_birds()],
        FileHashes(tmp_path / "h"),
        lambda k: True,
        lambda i: {},
        Throughput(),
        [],
    )
    (missing,) = found.unresolved
    assert missing.startswith("weights 'not-there': not found")
    unresolved = {s.stage.kind for s in found.stages.values() if s.unresolved}
    assert unresolved == {"clip_images", "clip_texts", "clip_segments"}
    assert {found.stages[key].stage.kind for key in found.cached}.isdisjoint(unresolved)


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; import grid.planning.plan, grid.planning.planning, grid.commands.cli\n"
        "from grid.spec.spec import load_spec; from grid.spec.candidates import candidates; from components.data.card import load_card\n"
        "candidates(load_spec(Path('experiments/demo.yaml')), load_card('toybirds'))\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'open_clip') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_overrides_reach_lists_and_mappings(write_spec: Callable[..., Path]) -> None:
    path = write_spec(name="o", datasets=["toybirds"], methods=[{"method": "standard"}])
    changed = load_spec(
        path, ("seeds=[4, 5]", "datasets.0.images_per_split=7", "search.kind=random", "search.trials=2")
    )
    assert changed.seeds == [4, 5]
    assert changed.datasets[0].images_per_split == 7
    assert changed.search.trials == 2
    for wrong in ("datasets.3.root=/x", "seeds", "name.x=1"):
        with pytest.raises(SpecError, match="--set"):
            load_spec(path, (wrong,))


@pytest.mark.parametrize("path", sorted(Path("experiments").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_experiment_says_what_it_asks_and_can_be_planned(path: Path) -> None:
    content = load_spec(path)
    assert content.name == path.stem
    assert all([content.question, content.baseline, content.cost, content.expected, content.source])
    found = candidates(content, load_card(content.datasets[0].name)).distinct
    assert found
    for one in found:
        knobs = configuration(one.method)
        record = stage_row({"key": "k", "kind": "column", "params": knobs}, now="")
        assert json.loads(record["manifest"])["params"] == json.loads(json.dumps(knobs)), (
            "no knob is a secret"
        )

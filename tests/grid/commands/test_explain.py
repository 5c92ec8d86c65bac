"""`python -m grid explain` and what a trial leaves to look at, on trials that really ran."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.images import decode
from components.studies.concept_bottleneck.concept_bottleneck import ConceptBottleneck, final_layer
from components.studies.concept_bottleneck.maps.concept_maps import upsampled
from components.studies.concept_bottleneck.methods.salf_cbm import SalfCbm
from grid.commands.cli import main
from grid.commands.explanation import Question, ask
from grid.refused import Refused
from grid.stores.evidence import LeftEvidence
from grid.stores.storage import Storage
from grid.trials.finished import FinishedTrial, open_finished
from tests.grid.finished_world import Finished


@pytest.fixture(scope="module")
def salf(finished: Finished) -> FinishedTrial:
    return open_finished(finished.world, finished.ids["salf_cbm"][:10])


@pytest.fixture
def explain(
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """Runs the command on the trial of a method; its exit status and what it said."""

    def run(method: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["grid", "explain", finished.ids[method], *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), (said.out + said.err).strip()

    return run


def question(image_id: int, **asked: Any) -> Question:
    nothing = dict.fromkeys(("point", "box", "mask", "concept", "beta", "edit"))
    return Question(**{**nothing, "image_id": image_id, "top": 3, **asked})


def first_test_image(trial: FinishedTrial) -> int:
    return int(trial.data.split("test").ids[0])


def test_an_opened_trial_predicts_as_it_did(finished: Finished) -> None:
    world, ids = finished.world, finished.ids
    for method in ("salf_cbm", "lf_cbm", "standard"):
        trial = open_finished(world, ids[method])
        storage = Storage(world.results.trial(trial.id)["artifacts_uri"])
        stored = json.loads(storage.read("manifest.json"))
        accuracy = next(
            m["value"]
            for m in stored["metrics"]
            if (m["name"], m["split"], m["selection"]) == ("average_accuracy", "test", "last")
        )
        test = trial.data.split("test")
        logits = trial.method.predict(trial.fitted, trial.data, test.ids)
        assert (logits.argmax(axis=1) == test.labels).mean() == pytest.approx(accuracy)


def test_concepts_of_a_box_are_those_of_the_up_sampled_maps(salf: FinishedTrial) -> None:
    method, image_id = salf.method, first_test_image(salf)
    assert isinstance(method, SalfCbm)
    answer, _ = ask(salf, question(image_id, box="10,20,30,50"))
    maps = method.maps(salf.fitted, salf.data, np.array([image_id]))[0].astype(np.float64)
    head = method.head(salf.fitted)
    large = upsampled((maps - head.mean[:, None, None]) / head.std[:, None, None], 64, method.middles(64))
    means = large[:, 20:50, 10:30].mean(axis=(1, 2))
    names = salf.fitted.facts["concepts"]
    best = np.argsort(-means)[:3]
    assert [one["concept"] for one in answer["concepts"]] == [names[i] for i in best]
    np.testing.assert_allclose([one["activation"] for one in answer["concepts"]], means[best], atol=1e-4)


def test_a_mask_file_a_box_and_a_point_are_one_region(salf: FinishedTrial, tmp_path: Path) -> None:
    image_id = first_test_image(salf)
    mask = np.zeros((64, 64), np.uint8)
    mask[30, 12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    regions = {"point": "12,30", "box": "12,30,13,31", "mask": tmp_path / "mask.png"}
    found = [ask(salf, question(image_id, **{name: value}))[0] for name, value in regions.items()]
    assert found[0]["concepts"] == found[1]["concepts"] == found[2]["concepts"]


def test_an_edit_of_nothing_changes_nothing_and_a_large_one_follows_the_weights(salf: FinishedTrial) -> None:
    image_id = first_test_image(salf)
    weight = final_layer(salf.fitted).weight
    margin = weight[1] - weight[0]
    concept = int(np.argmax(np.abs(margin)))
    name = salf.fitted.facts["concepts"][concept]
    still, _ = ask(salf, question(image_id, concept=name, beta=0.0))
    assert still["before"] == pytest.approx(still["after"], abs=1e-5)
    raised, _ = ask(salf, question(image_id, concept=name, beta=5.0))
    log_odds = [np.log(one["waterbird"] / one["landbird"]) for one in (raised["before"], raised["after"])]
    # raised everywhere, the softmax-weighted sum rises by as much
    assert np.diff(log_odds)[0] == pytest.approx(5 * margin[concept], rel=1e-3)


def test_a_method_without_maps_tells_contributions_and_raises_a_concept(
    finished: Finished,
) -> None:
    trial = open_finished(finished.world, finished.ids["lf_cbm"])
    image_id = first_test_image(trial)
    names = trial.fitted.facts["concepts"]
    answer, picture = ask(trial, question(image_id, concept=names[2], beta=1.5))
    assert picture is None
    assert len(answer["contributions"]) <= 3
    weight = final_layer(trial.fitted).weight.astype(np.float64)
    logits = trial.method.predict(trial.fitted, trial.data, np.array([image_id]))[0] + 1.5 * weight[:, 2]
    odds = np.log(answer["after"]["waterbird"] / answer["after"]["landbird"])
    assert odds == pytest.approx(logits[1] - logits[0], abs=1e-4)


def test_a_weight_edit_counts_what_happens_to_other_images(finished: Finished) -> None:
    trial = open_finished(finished.world, finished.ids["lf_cbm"])
    method, data = trial.method, trial.data
    assert isinstance(method, ConceptBottleneck)
    test, val = data.split("test"), data.split("val")
    logits = method.predict(trial.fitted, data, test.ids)
    wrong = int(np.flatnonzero(logits.argmax(axis=1) != test.labels)[0])
    concepts = method.concepts(trial.fitted, data, test.ids)[wrong]
    strongest = int(np.argmax(np.abs(concepts)))
    name = trial.fitted.facts["concepts"][strongest]
    edit = ask(trial, question(int(test.ids[wrong]), edit=name))[0]["edit"]
    label = int(test.labels[wrong])
    delta = (logits[wrong].max() - logits[wrong, label] + 0.2) / (2 * concepts[strongest])
    assert edit["delta"] == pytest.approx(delta, rel=1e-4)
    weight = final_layer(trial.fitted).weight.copy()
    weight[label, strongest] += delta
    weight[1 - label, strongest] -= delta
    bias = final_layer(trial.fitted).bias
    after = (method.concepts(trial.fitted, data, val.ids) @ weight.T + bias).argmax(axis=1) == val.labels
    before = method.predict(trial.fitted, data, val.ids).argmax(axis=1) == val.labels
    assert (edit["corrected"], edit["broken"]) == ((after & ~before).sum(), (before & ~after).sum())
    right = int(np.flatnonzero(logits.argmax(axis=1) == test.labels)[0])
    with pytest.raises(Refused, match="nothing to edit"):
        ask(trial, question(int(test.ids[right]), edit=name))


def test_the_command_prints_an_answer_and_writes_its_picture(
    explain: Callable[..., tuple[int, str]], salf: FinishedTrial, tmp_path: Path
) -> None:
    image_id, picture = str(first_test_image(salf)), tmp_path / "region.png"
    asked = ("--image", image_id, "--point", "20,20", "--concept", "crest", "--beta", "2")
    status, said = explain("salf_cbm", *asked, "--out", str(picture))
    assert status == 0
    assert "strongest concepts in point 20,20" in said
    assert "crest raised by 2" in said
    assert decode(picture).shape[2] == 3
    status, said = explain("salf_cbm", *asked, "--json")
    assert json.loads(said)["raised"] == "crest"
    status, said = explain("lf_cbm", "--image", image_id)
    assert "what contributes most" in said


@pytest.mark.parametrize(
    ("method", "arguments", "reason"),
    [
        ("pending", ["--image", "0"], "is pending: only one that is done"),
        ("salf_cbm", ["--image", "77777"], "image 77777 is not in toybirds"),
        ("salf_cbm", ["--image", "0", "--concept", "crets", "--beta", "1"], "the closest: crest"),
        ("salf_cbm", ["--image", "0", "--concept", "crest"], "--concept and --beta together"),
        ("salf_cbm", ["--image", "0", "--box", "5,5,5,9"], "the region is empty"),
        ("salf_cbm", ["--image", "0", "--box", "70,70,90,90"], "the region is empty"),
        ("salf_cbm", ["--image", "0", "--point", "64,3"], "outside an image of 64x64 pixels"),
        ("salf_cbm", ["--image", "0", "--point", "3"], "expected 2 numbers"),
        ("salf_cbm", ["--image", "0", "--point", "nan,3"], "outside an image"),
        ("salf_cbm", ["--image", "0", "--point", "3,3", "--box", "1,1,9,9"], "give one of"),
        ("salf_cbm", ["--image", "0", "--mask", "nowhere.png"], "no mask nowhere.png"),
        ("salf_cbm", ["--image", "0", "--mask", "datasets/toybirds/card.yaml"], "not a picture"),
        ("lf_cbm", ["--image", "0", "--point", "3,3"], "lf_cbm has no concept maps"),
        ("lf_cbm", ["--image", "0", "--out", "x.png"], "this method has no concept maps"),
        ("standard", ["--image", "0"], "standard has no concept bottleneck"),
        ("standard", ["--image", "0", "--edit", "crest"], "no final layer on concepts"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    explain: Callable[..., tuple[int, str]], method: str, arguments: list[str], reason: str
) -> None:
    status, said = explain(method, *arguments)
    assert status == 2
    assert len(said.splitlines()) == 1
    assert reason in said


def test_a_data_set_that_has_changed_is_refused(finished: Finished, birds: Path) -> None:
    world, ids = finished.world, finished.ids
    metadata = birds / "metadata.csv"
    original = metadata.read_bytes()
    try:
        metadata.write_bytes(original.rsplit(b"\n", 2)[0] + b"\n")
        with pytest.raises(Refused, match="its content has changed"):
            open_finished(world, ids["salf_cbm"])
    finally:
        metadata.write_bytes(original)


@pytest.mark.parametrize("file", ["facts.json", "fitted.safetensors", "manifest.json"])
def test_what_a_trial_left_and_a_crash_cut_short_is_named(
    finished: Finished, explain: Callable[..., tuple[int, str]], salf: FinishedTrial, file: str
) -> None:
    uri = finished.world.results.trial(salf.id)["artifacts_uri"]
    path = Path(uri.removeprefix("file://")) / file
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        status, said = explain("salf_cbm", "--image", str(first_test_image(salf)))
    finally:
        path.write_bytes(whole)
    assert status == 2
    assert len(said.splitlines()) == 1
    assert f"trial {salf.id}: {file}" in said
    assert f"python -m grid rerun {salf.id}" in said


def test_a_trial_leaves_its_rules_and_pictures(finished: Finished) -> None:
    world, ids = finished.world, finished.ids
    storage = Storage(world.results.trial(ids["salf_cbm"])["artifacts_uri"])
    rows = list(csv.DictReader(io.StringIO(storage.read("files/rules.csv").decode())))
    trial = open_finished(world, ids["salf_cbm"])
    weight, names = final_layer(trial.fitted).weight, trial.fitted.facts["concepts"]
    assert rows
    assert len(rows) == (np.abs(weight) > 1e-5).sum()
    for row in rows:
        value = weight[trial.data.card.classes.index(row["class"]), names.index(row["concept"])]
        assert float(row["weight"]) == pytest.approx(value, rel=1e-5)
    listed = storage.read_json("pictures.json")
    wide = [one["file"] for one in listed if one["wide"]]
    explained = [one["file"].removeprefix("pictures/") for one in listed if not one["wide"]]
    assert wide == ["pictures/rules.jpg", *(f"pictures/region_{name}" for name in explained)]
    assert all(storage.exists(one["file"]) for one in listed)


def test_frames_of_a_video_have_the_maps_of_stored_images(finished: Finished, salf: FinishedTrial) -> None:
    method, data = salf.method, salf.data
    assert isinstance(method, SalfCbm)
    ids = data.split("test").ids[:3]
    frames = list(data.images(ids))
    classifier = salf.inputs(finished.world, "features")["classifier"]
    maps = method.frame_maps(salf.fitted, frames, data.card, classifier)
    alone = [method.frame_maps(salf.fitted, [frame], data.card, classifier)[0] for frame in frames]
    np.testing.assert_array_equal(maps, alone)
    stored = method.maps(salf.fitted, data, ids)
    assert maps.shape == stored.shape == (3, len(salf.fitted.facts["concepts"]), 3, 3)
    np.testing.assert_allclose(maps, stored, atol=2e-3 * np.abs(stored).max())
    with pytest.raises(ValueError, match="no frame"):
        method.frame_maps(salf.fitted, [], data.card, classifier)


@pytest.mark.parametrize("method", ["salf_cbm", "lf_cbm"])
def test_what_is_kept_of_every_test_image_is_what_explain_says_first(finished: Finished, method: str) -> None:
    trial = open_finished(finished.world, finished.ids[method])
    kept = LeftEvidence(trial.id, finished.world.results.trial(trial.id)["artifacts_uri"]).predictions()
    assert kept is not None
    images = kept["image_id"].to_pylist()
    assert images == trial.data.split("test").ids.tolist()
    explanations = trial.method.explain(trial.fitted, trial.data, images)
    for row, explanation in zip(kept.to_pylist(), explanations, strict=True):
        said = explanation.captions
        if method == "lf_cbm":  # whose captions end in what the concept adds
            said = tuple(caption.rpartition(" ")[0] for caption in said)
        assert [term["what"] for term in row["evidence"]] == list(said[:3])
        found = [term["contribution"] for term in row["evidence"]]
        np.testing.assert_allclose(found, explanation.weights[:3], rtol=1e-5)
        assert explanation.title.startswith(row["predicted_name"])
        assert row["path"] == str(trial.data.index.paths[trial.data.rows(np.array([row["image_id"]]))[0]])

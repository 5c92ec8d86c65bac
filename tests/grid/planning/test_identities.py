"""Identities do not move: later code finds the trials and artifacts that people have stored.

A new method or stage needs a new line in `identities.txt`. An old line changes only with a VERSION, with a
default, or with a shipped file that it names (a vocabulary, weights): else what is stored is lost.
"""

from pathlib import Path

from components.data.card import load_card
from components.data.fingerprint import FileHashes
from components.method import Method
from components.models.networks.backbones.small_vit import SmallVit
from components.models.segmentation.segmenters.grounded_sam import GroundedSam
from components.models.training.recipe import Recipe
from components.stage import Stage
from components.studies.baselines.methods.standard import Standard
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from grid.inputs.datasets import Dataset
from grid.names import component_class, names
from grid.planning.plan import Planner
from grid.spec.block import Candidate
from grid.spec.spec import Resources

FROZEN = Path(__file__).with_name("identities.txt")
TAUGHT = SmallVit(checkpoint="datasets/toybirds/vit/model.safetensors")
OTHERS = {
    "seg_mil_cbm, boxes merged": SegMilCbm(segmenter=GroundedSam(), merge="union"),
    "standard, a head alone": Standard(backbone=TAUGHT, recipe=Recipe(trainable="head")),
}


def identities() -> list[str]:
    """A line for every method with its defaults on toybirds, for a few others, and for the first stage of
    every kind that they read."""
    planner = Planner(FileHashes(Path("no-such-file")), "wrong", Resources())
    data = Dataset(load_card("toybirds"), None, None, "f" * 20)
    methods = {name: component_class(Method.FOLDER, name)() for name in names(Method.FOLDER)} | OTHERS
    lines = [
        f"trial {planner.trial(Candidate(method), data, 0).id} {name}" for name, method in methods.items()
    ]
    kinds: dict[str, str] = {}
    for key, planned in planner.stages.items():
        kinds.setdefault(planned.stage.kind, key)
    return lines + [f"stage {key} {kind}" for kind, key in sorted(kinds.items())]


def test_every_identity_is_as_it_was() -> None:
    assert identities() == FROZEN.read_text().splitlines()


def test_every_method_and_stage_is_among_them() -> None:
    listed = {tuple(line.split(" ", 2)[::2]) for line in FROZEN.read_text().splitlines()}
    wanted = {("trial", name) for name in names(Method.FOLDER)}
    assert wanted | {("stage", name) for name in names(*Stage.FOLDERS)} <= listed

"""Where weights are looked for, and what is said when they are not there."""

from pathlib import Path

import pytest

from components.models.weights.checkpoints import MissingWeights, checkpoint_files, find_checkpoint


def test_a_name_is_a_path_below_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    (tmp_path / "ViT-B-32/openai").mkdir(parents=True)
    assert find_checkpoint("ViT-B-32/openai") == tmp_path / "ViT-B-32/openai"


def test_the_folder_may_be_relative_or_in_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/sam.pth").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for value in ("weights", "./weights", "~/weights"):
        monkeypatch.setenv("CONCEPTGRID_WEIGHTS", value)
        assert find_checkpoint("sam.pth") == tmp_path / "weights/sam.pth"


def test_what_ships_is_found_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONCEPTGRID_WEIGHTS", raising=False)
    names = {path.name for path in checkpoint_files(find_checkpoint("datasets/toybirds/clip"))}
    assert {"open_clip_config.json", "open_clip_model.safetensors"} <= names


def test_missing_weights_say_where_they_were_looked_for_and_what_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights) as error:
        find_checkpoint("sam.pth")
    line = str(error.value)
    assert "'sam.pth'" in line
    assert str(tmp_path / "sam.pth") in line
    assert line.endswith("python -m grid weights fetch sam.pth")
    assert "CONCEPTGRID_WEIGHTS" not in line
    monkeypatch.delenv("CONCEPTGRID_WEIGHTS")
    with pytest.raises(MissingWeights, match="set CONCEPTGRID_WEIGHTS to their folder, then python -m grid"):
        find_checkpoint("sam.pth")


def test_a_name_may_not_lead_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "secret.pth").touch()
    for name in ("../secret.pth", "a/../../secret.pth", ""):
        with pytest.raises(MissingWeights, match=r"without `\.\.`"):
            find_checkpoint(name)

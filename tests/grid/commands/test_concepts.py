"""`python -m grid concepts`, from a language model on loopback to a vocabulary that a method reads."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data import card as cards
from components.data.card import load_card
from components.vocabularies.prompts import prompt
from components.vocabularies.similarity import load_encoders
from grid.commands import vocabulary
from grid.commands.cli import main
from tests.fake_language_model import FakeLanguageModel, Reply, language_model
from tests.tiny_mpnet import write_mpnet

KEY = "sk-very-secret-0123456789"
CARD = """
title: a
source: b
licence: c
layout: image_folder
image_size: 32
classes: [sea_lion, bird]
"""
SAID = {
    "important": "- long whiskers\n- a tail\n- a body that is much too long for a concept",
    "superclass": "Here they are:\n- animal\n- Bird\n- sea lion",
    "around": "- the sea\n- a tail\n- [red] rocks",
}
NAMED = {"a body that is much too long for a concept", "Bird", "[red] rocks", "a tail", "animal"} | {
    "long whiskers",
    "sea lion",
    "the sea",
}

Run = Callable[..., tuple[int, str, str]]


def by_kind(text: str) -> str:
    """What the model says to each kind of question."""
    (answer,) = (
        SAID[kind] for kind in SAID for name in ("sea_lion", "bird", "cat") if text == prompt(kind, name)
    )
    return answer


@pytest.fixture
def server() -> Iterator[FakeLanguageModel]:
    with language_model() as running:
        running.answer = by_kind
        yield running


@pytest.fixture(scope="session")
def mpnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mpnet(tmp_path_factory.mktemp("mpnet"))


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """datasets/small of a card with two classes."""
    monkeypatch.setattr(cards, "DATASETS", tmp_path)
    monkeypatch.setattr(vocabulary, "DATASETS", tmp_path)
    monkeypatch.setenv("CONCEPTGRID_PROVIDER_KEY", KEY)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/card.yaml").write_text(CARD)
    return tmp_path / "small"


@pytest.fixture
def run(
    folder: Path,
    tiny_clip: Path,
    mpnet: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """`concepts small …` in this process: exit status, output, errors. The key is nowhere."""

    def command(*arguments: str, dataset: str = "small") -> tuple[int, str, str]:
        encoders = ("--clip", str(tiny_clip), "--sentence-encoder", str(mpnet))
        monkeypatch.setattr(sys, "argv", ["grid", "concepts", dataset, *encoders, *arguments])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        written = "".join(path.read_text() for path in folder.iterdir())
        assert KEY not in captured.out + captured.err + written
        return status, captured.out, captured.err

    return command


def ask(server: FakeLanguageModel, *more: str) -> list[str]:
    return ["--provider", server.url, "--model", "small-model", *more]


def report(folder: Path, name: str = "generated") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{name}.report.json").read_text())
    return content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_vocabulary_from_a_model_and_every_dropped_concept_with_its_filter(
    run: Run, folder: Path, server: FakeLanguageModel, tiny_clip: Path, mpnet: Path
) -> None:
    status, out, _ = run(*ask(server))
    assert status == 0
    assert len(server.asked) == 2 * 3 * 2  # classes, kinds, times
    assert {headers["Authorization"] for _, headers, _ in server.asked} == {f"Bearer {KEY}"}
    assert names(folder) == [
        "card.yaml",
        "generated.answers.json",
        "generated.report.json",
        "generated.txt",
    ]
    made = report(folder)
    kept = list(load_card("small").vocabulary("generated"))
    assert list(made["kept"]) == kept == sorted(kept)
    assert set(kept) | {one["concept"] for one in made["dropped"]} == NAMED
    assert made["counts"]["named"] == len(NAMED) == len(kept) + len(made["dropped"])
    dropped = {one["concept"]: one for one in made["dropped"]}
    assert dropped["a body that is much too long for a concept"]["filter"] == "length"
    assert (dropped["sea lion"]["filter"], dropped["sea lion"]["partner"]) == ("class_name", "sea lion")
    assert dropped["Bird"]["partner"] == "bird"
    embed = load_encoders(str(tiny_clip), str(mpnet), "cpu")
    for one in dropped.values():
        if one["filter"].endswith("similarity"):
            first, second = embed([one["concept"], one["partner"]])
            assert one["similarity"] == pytest.approx(first @ second, abs=1e-5)
            assert one["similarity"] >= {"class_similarity": 0.85, "pair_similarity": 0.90}[one["filter"]]
    vectors = embed(kept)
    assert (vectors @ vectors.T)[~np.eye(len(kept), dtype=bool)].max(initial=-1) < 0.90 + 1e-5
    assert made["kept"][kept[0]] == ["sea_lion", "bird"]
    assert (made["model"], made["provider"], made["temperature"]) == ("small-model", server.url, 0.7)
    lines = (folder / "generated.txt").read_text().splitlines()
    assert any("small-model" in line for line in lines if line.startswith("#"))
    for name in ("length", "class_name", "class_similarity", "pair_similarity"):
        (line,) = (line for line in out.splitlines() if line.startswith(name))
        assert line.split()[1] == str(made["counts"][name])
    assert f"{len(kept)} of {len(NAMED)} concepts kept" in out


def test_recorded_answers_make_the_same_list_again_and_others_by_other_rules(
    run: Run, folder: Path, server: FakeLanguageModel
) -> None:
    assert run(*ask(server))[0] == 0
    asked, recorded = len(server.asked), str(folder / "generated.answers.json")
    assert run("--from-answers", recorded, "--out", "again")[0] == 0
    vocabulary = load_card("small").vocabulary
    assert vocabulary("again") == vocabulary("generated")
    assert (folder / "again.answers.json").read_text() == Path(recorded).read_text()
    none = ("--class-cutoff", "1.1", "--pair-cutoff", "1.1")
    status, _, _ = run("--from-answers", recorded, "--out", "all", "--max-length", "99", *none)
    assert status == 0
    assert set(vocabulary("all")) == NAMED - {"Bird", "sea lion"}
    assert "[red] rocks" in vocabulary("all")
    assert run("--from-answers", recorded, "--out", "few", "--prompts", "around", *none)[0] == 0
    assert vocabulary("few") == ("[red] rocks", "a tail", "the sea")
    assert report(folder, "few")["prompts"] == ["around"]
    assert len(server.asked) == asked


def test_the_index_bug_is_an_option(run: Run, folder: Path, server: FakeLanguageModel) -> None:
    """With a cut-off that every concept exceeds, only those at the place of their one class survive."""
    (folder / "card.yaml").write_text(CARD.replace("[sea_lion, bird]", "[bird]"))
    cutoffs = ("--class-cutoff", "-0.99")
    status, _, err = run(*ask(server, *cutoffs))
    assert status == 1
    assert "no concept is left" in err
    assert names(folder) == ["card.yaml", "generated.answers.json", "generated.report.json"]
    assert run(*ask(server, *cutoffs, "--compat-index-bug"))[0] == 0
    assert load_card("small").vocabulary("generated") == ("[red] rocks",)
    assert len(server.asked) == 3 * 2  # not asked again


def test_broken_off_the_same_command_asks_only_what_is_missing(
    run: Run, folder: Path, server: FakeLanguageModel
) -> None:
    refuse = Reply(b'{"error": {"message": "insufficient funds, ' + KEY.encode() + b'"}}', 402)

    def by_kind_once(text: str) -> str:
        if '"bird"' in text:
            server.replies.append(refuse)
        return by_kind(text)

    server.answer = by_kind_once  # after a question about birds, the next is refused
    status, _, err = run(*ask(server, "--at-once", "1"))
    assert status == 1
    assert "insufficient funds, ***" in err
    assert "the same command goes on" in err
    assert len(err.strip().splitlines()) == 1
    assert names(folder) == ["card.yaml", "generated.answers.json"]
    first = server.prompts()
    server.answer, server.replies = by_kind, []
    assert run(*ask(server, "--at-once", "1"))[0] == 0
    second = server.prompts()[len(first) :]
    kept = [prompt("important", "sea_lion")] * 2
    assert first[:2] == kept
    assert not set(kept) & set(second)
    assert len(second) == 2 * 3 * 2 - 2


def test_an_existing_vocabulary_is_not_overwritten_unless_told_to(
    run: Run, folder: Path, server: FakeLanguageModel
) -> None:
    (folder / "concepts.txt").write_text("a wing\n")
    status, _, err = run(*ask(server, "--out", "concepts"))
    assert status == 2
    assert "--replace" in err
    assert server.asked == []
    assert (folder / "concepts.txt").read_text() == "a wing\n"
    assert run(*ask(server, "--out", "concepts", "--replace"))[0] == 0
    assert "a wing" not in load_card("small").vocabulary()
    asked = len(server.asked)
    assert run(*ask(server, "--out", "concepts", "--replace"))[0] == 0
    assert len(server.asked) == asked  # the answers are the same model's


def test_answers_of_another_model_are_not_mixed_in(run: Run, folder: Path, server: FakeLanguageModel) -> None:
    assert run(*ask(server))[0] == 0
    (folder / "generated.txt").unlink()
    other = ("--provider", server.url, "--model", "other")
    status, _, err = run(*other)
    assert status == 2
    assert "model 'small-model', not 'other'" in err
    asked = len(server.asked)
    assert run(*other, "--replace")[0] == 0
    assert len(server.asked) == 2 * asked
    assert report(folder)["model"] == "other"


def test_a_new_class_or_kind_is_asked_and_the_rest_is_kept(
    run: Run, folder: Path, server: FakeLanguageModel
) -> None:
    assert run(*ask(server, "--prompts", "important,superclass"))[0] == 0
    (folder / "card.yaml").write_text(CARD.replace("bird]", "bird, cat]"))
    before = len(server.asked)
    assert run(*ask(server, "--replace"))[0] == 0
    asked = set(server.prompts()[before:])
    around = {prompt("around", name) for name in ("sea_lion", "bird", "cat")}
    assert asked == around | {prompt(kind, "cat") for kind in SAID}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--provider URL and --model NAME, or --from-answers FILE"),
        (["--model", "m"], "go together"),
        (["--provider", "https://host/v1"], "go together"),
        (["--provider", "https://host/v1", "--model", "m", "--from-answers", "x"], "who answers?"),
        (["--from-answers", "/no/where.json"], "no answers at /no/where.json"),
        (["--provider", "host", "--model", "m"], "address such as"),
        (["--provider", "http://host/v1", "--model", "m"], "clear text"),
        (["--provider", "https://host/v1", "--model", "m", "--prompts", "importent"], "'important'"),
        (["--provider", "https://host/v1", "--model", "m", "--out", "../x"], "letters, digits"),
        (["--provider", "https://host/v1", "--model", "m", "--sentence-encoder", "no/mpnet"], "no/mpnet"),
        (["--provider", "https://host/v1", "--model", "m", "--clip", "no/clip"], "weights fetch no/clip"),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(
    run: Run, folder: Path, arguments: list[str], says: str
) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("refused: ")
    assert names(folder) == ["card.yaml"]


def test_answers_that_are_not_all_there_or_broken_are_refused(
    run: Run, folder: Path, server: FakeLanguageModel
) -> None:
    assert run(*ask(server, "--prompts", "around"))[0] == 0
    path = folder / "generated.answers.json"
    status, _, err = run("--from-answers", str(path), "--out", "other")
    assert status == 2
    assert "4 missing, the first: important of sea_lion" in err
    path.write_text("{")
    for arguments in (["--from-answers", str(path)], ask(server)):
        (folder / "generated.txt").unlink(missing_ok=True)
        status, _, err = run(*arguments)
        assert status == 2
        assert "generated.answers.json" in err
    assert run(*ask(server, "--replace"))[0] == 0


def test_encoders_that_do_not_fit_are_refused_before_anybody_is_asked(
    run: Run, folder: Path, server: FakeLanguageModel, tiny_clip: Path
) -> None:
    status, _, err = run(*ask(server), "--sentence-encoder", str(tiny_clip))
    assert status == 2
    assert str(tiny_clip) in err
    (folder / "card.yaml").write_text(CARD.replace("sea_lion", "sea_lion_of_a_very_" + "long_" * 30 + "name"))
    status, _, err = run(*ask(server))
    assert status == 2
    assert "tokens, more than the model's" in err
    assert server.asked == []


def test_an_unknown_data_set_is_refused_and_the_help_teaches(run: Run) -> None:
    status, _, err = run("--from-answers", "x.json", dataset="smal")
    assert status == 2
    assert "no data set 'smal'; there is: small" in err
    status, out, _ = run("--help")
    assert status == 0
    help_text = " ".join(out.split())
    for words in ("export CONCEPTGRID_PROVIDER_KEY=", "--from-answers", "python -m grid weights fetch"):
        assert words in help_text
    assert "Exit status 1" in help_text

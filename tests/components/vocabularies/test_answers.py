import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.vocabularies.answers import (
    Answers,
    AnswersError,
    ask,
    parse,
    read_answers,
    unanswered,
    write_answers,
)
from components.vocabularies.prompts import EXAMPLES, KINDS, prompt
from components.vocabularies.provider import ProviderError

CLASSES = ("landbird", "sea_lion")


@pytest.mark.parametrize(
    ("answer", "concepts"),
    [
        ("- a tail\n- two wings", ["a tail", "two wings"]),
        ("-a tail\n\n-two wings\n", ["a tail", "two wings"]),
        (" a tail\n- two wings", ["a tail", "two wings"]),  # goes on after the prompt's own dash
        ("• a tail\n* two wings\n– a beak", ["a tail", "two wings", "a beak"]),
        ("1. a tail\n2) two wings", ["a tail", "two wings"]),
        ("4 wheels\n2 pickups\n4x4\n5-7 black rings", ["4 wheels", "2 pickups", "4x4", "5-7 black rings"]),
        ("- a four-legged mammal", ["a four-legged mammal"]),
        ("Here is what one sees:\n- a tail.\n- **two wings**,", ["a tail", "two wings"]),
        ("## Features\n**Body:**\n- a tail", ["a tail"]),
        ('- "Police" markings', ['"Police" markings']),
        ("- a tail\r\n- two wings\r\n", ["a tail", "two wings"]),
        ("- a\x1b[31m red\u00a0tail\x00", ["a [31m red tail"]),
        ("\n - \n--\n", []),
        ("- # of legs", []),
    ],
)
def test_an_answer_is_read_line_by_line(answer, concepts):
    assert parse(answer) == concepts


@given(st.text())
def test_whatever_is_answered_becomes_lines_that_a_vocabulary_can_hold(answer):
    for concept in parse(answer):
        assert concept == concept.strip() != ""
        assert concept.isprintable()
        assert not concept.startswith("#")


def test_a_prompt_has_two_worked_examples_and_asks_about_the_class():
    for kind in KINDS:
        text = prompt(kind, "sea_lion")
        blocks = text.split("\n\n")
        assert len(blocks) == 3
        for block, (name, phrases) in zip(blocks, EXAMPLES[kind].items(), strict=False):
            assert f'"{name}"' in block
            assert parse(block.partition("\n")[2]) == list(phrases)
        assert blocks[2].count('"sea lion"') == 1
        assert "{}" not in text
    assert len({prompt(kind, "x") for kind in KINDS}) == 3


class Scripted:
    """Answers by a rule; knows what it was asked, and how often at the same time."""

    def __init__(self, rule):
        self.rule, self.asked = rule, []
        self.lock, self.here, self.busiest = threading.Lock(), 0, 0

    def answer(self, prompt):
        with self.lock:
            self.asked.append(prompt)
            self.here += 1
            self.busiest = max(self.busiest, self.here)
        try:
            return self.rule(prompt)
        finally:
            with self.lock:
                self.here -= 1


def test_every_question_is_asked_twice_and_the_union_remembers_its_classes(tmp_path):
    turns = iter(range(99))
    provider = Scripted(lambda text: f"- a tail\n- {'fin' if 'sea lion' in text else 'wing'} {next(turns)}")
    answers = unanswered("m", "http://x/v1", ("important", "around"))
    questions = answers.missing(("important", "around"), CLASSES)
    assert len(questions) == 4
    done = []
    ask(answers, provider, questions, tmp_path / "a.json", 1, done.append)
    assert done == [1, 2, 3, 4]
    expected = [prompt(kind, name) for kind in ("important", "around") for name in CLASSES for _ in range(2)]
    assert provider.asked == expected
    assert answers.missing(("important", "around"), CLASSES) == []
    assert answers.missing(("superclass",), CLASSES) == [("superclass", name) for name in CLASSES]
    found = answers.concepts(("important", "around"), CLASSES)
    assert list(found) == sorted(found)
    assert len(found) == 1 + 8
    assert found["a tail"] == list(CLASSES)
    assert sum(concept.startswith("fin ") for concept in found) == 4
    assert all(found[concept] == ["sea_lion"] for concept in found if concept.startswith("fin "))
    assert len(answers.concepts(("around",), CLASSES)) == 1 + 4
    assert read_answers(tmp_path / "a.json") == answers


def test_what_was_answered_is_kept_when_one_fails_and_not_asked_again(tmp_path):
    path, classes = tmp_path / "a.json", [f"class {i}" for i in range(8)]
    broken = Scripted(lambda text: "- x" if "class 5" not in text else fail())

    def fail():
        raise ProviderError("no money left")

    answers = unanswered("m", "u", ("around",))
    with pytest.raises(ProviderError, match="no money"):
        ask(answers, broken, answers.missing(("around",), classes), path, 1, lambda done: None)
    stored = read_answers(path)
    assert set(stored.answers["around"]) == set(classes[:5])
    left = stored.missing(("around",), classes)
    provider = Scripted(lambda text: "- y")
    ask(stored, provider, left, path, 3, lambda done: None)
    assert sorted(provider.asked) == sorted([prompt(*question) for question in left] * 2)
    assert read_answers(path).missing(("around",), classes) == []
    assert stored.answers["around"]["class 0"] == ["- x", "- x"]


def test_after_a_failure_no_more_questions_are_begun(tmp_path):
    def fail(text):
        raise ProviderError("down")

    provider, classes = Scripted(fail), [f"class {i}" for i in range(50)]
    answers = unanswered("m", "u", ("around",))
    with pytest.raises(ProviderError):
        ask(answers, provider, answers.missing(("around",), classes), tmp_path / "a", 2, lambda done: None)
    assert len(provider.asked) <= 2
    assert not (tmp_path / "a").exists()


def test_no_more_questions_are_on_their_way_than_allowed(tmp_path):
    two = threading.Barrier(2)

    def together(text):
        two.wait(timeout=10)  # passes only where two are asked at the same time
        return "- x"

    provider, classes = Scripted(together), [f"class {i}" for i in range(6)]
    answers = unanswered("m", "u", ("around",))
    ask(answers, provider, answers.missing(("around",), classes), tmp_path / "a", 2, lambda done: None)
    assert provider.busiest == 2


def test_answers_of_another_model_or_another_wording_are_told_apart(tmp_path):
    one = unanswered("m", "u", ("around",))
    assert one.differs(unanswered("m", "another address", ("around", "important"))) == ""
    assert "'n'" in unanswered("n", "u", ("around",)).differs(one)
    changed = one.model_copy(update={"prompts": {"around": "What is near {}?"}})
    assert "wording of around" in changed.differs(one)
    warmer = one.model_copy(update={"temperature": 1.0})
    assert "temperature 1.0, not 0.7" in warmer.differs(one)


def test_files_that_are_no_answers_are_named_in_one_line(tmp_path):
    path = tmp_path / "a.json"
    good = json.loads(unanswered("m", "u", ("around",)).model_dump_json())
    for content in ("", "[]", json.dumps({**good, "key": 1}), json.dumps({**good, "answers": {"around": 3}})):
        path.write_text(content)
        with pytest.raises(AnswersError, match=r"a\.json") as caught:
            read_answers(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(AnswersError, match="no answers at"):
        read_answers(tmp_path / "other.json")
    write_answers(Answers.model_validate(good), path)
    assert read_answers(path).model == "m"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]

"""The preference page's server: what it stores, what it refuses, and that it stays blind."""

import http.client
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid.commands.cli import main
from grid.commands.prefer_server import serve
from grid.commands.preference import Study, pairs_of
from tests.grid.conftest import Shell
from tests.grid.finished_world import Finished
from tests.grid.preference_study import EXPERIMENT, N_IMAGES, SLOW, study_of, two_trials


@dataclass
class Client:
    """Asks the server as the page does."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        own = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"} if body else {}
        sent = {name.replace("_", "-"): value for name, value in {**own, **headers}.items()}
        content = body if isinstance(body, str) else json.dumps(body) if body is not None else None
        connection.request("POST" if body is not None else "GET", path, content, sent)
        reply = connection.getresponse()
        text = reply.read()
        self.headers = dict(reply.getheaders())
        connection.close()
        return reply.status, json.loads(text) if "json" in self.headers["Content-Type"] else text.decode()

    def state(self) -> Any:
        status, state = self.ask("/state")
        assert status == 200
        return state

    def vote(self, choice: str) -> Any:
        """On what is shown."""
        status, state = self.ask("/vote", {"image": self.state()["pair"]["image"], "choice": choice})
        assert status == 200, state
        return state


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of(tmp_path)


@pytest.fixture
def client(study: Study) -> Iterator[Client]:
    server = serve(study, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield Client(server.server_port)
    server.shutdown()
    server.server_close()
    thread.join()


def stored(study: Study) -> list[dict[str, Any]]:
    return study.results.preferences(EXPERIMENT, ("left-heavy", "right-heavy"), study.rater)


def test_a_vote_is_stored_with_who_stood_where(client: Client, study: Study) -> None:
    first = client.state()
    assert (first["done"], first["total"], first["undo"]) == (0, N_IMAGES, False)
    state = client.vote("left")
    assert (state["done"], state["undo"]) == (1, True)
    assert state["pair"]["image"] != first["pair"]["image"]
    client.vote("tie")
    pair, second = study.pairs[:2]
    votes = stored(study)
    assert [(v["image_id"], v["choice"]) for v in votes] == [
        (str(pair.image_id), "left"),
        (str(second.image_id), "tie"),
    ]
    assert (votes[0]["left_trial"], votes[0]["right_trial"]) == (pair.left.id, pair.right.id)
    assert {v["voter"] for v in votes} == {"ada"}


def test_a_rater_goes_on_where_they_stopped_and_another_starts_anew(study: Study) -> None:
    for pair in study.pairs[:3]:
        study.vote(pair.image_id, "right")
    a, b = two_trials(study.results)
    again = Study(EXPERIMENT, "ada", pairs_of(b, a, "test", 100, "ada"), study.results)
    state = again.state()
    assert (state["done"], state["pair"]["image"]) == (3, study.pairs[3].image_id)
    other = Study(EXPERIMENT, "bob", pairs_of(a, b, "test", 100, "bob"), study.results)
    assert other.state()["done"] == 0
    for pair in study.pairs[3:]:
        again.vote(pair.image_id, "tie")
    assert again.state() == {"done": N_IMAGES, "total": N_IMAGES, "undo": True, "pair": None}


def test_undo_takes_the_last_vote_back_and_shows_its_image_again(client: Client, study: Study) -> None:
    client.vote("left")
    second = client.state()["pair"]["image"]
    client.vote("right")
    status, state = client.ask("/undo", {"last": True})
    assert (status, state["done"], state["pair"]["image"]) == (200, 1, second)
    assert [vote["choice"] for vote in stored(study)] == ["left"]
    assert client.ask("/undo", {"last": True})[1]["undo"] is False
    assert client.ask("/undo", {"last": True}) == (409, {"error": "no vote to undo"})


def test_each_trial_is_left_in_half_of_the_images_by_no_rule_of_the_order(study: Study) -> None:
    a, b = two_trials(study.results)
    sides = {rater: pairs_of(a, b, "test", 100, rater) for rater in "abcdefgh"}
    for pairs in sides.values():
        assert len(pairs) == N_IMAGES
        assert sum(pair.left is a for pair in pairs) == N_IMAGES // 2
        assert {pair.left.id for pair in pairs} == {pair.right.id for pair in pairs}
    assert len({tuple(pair.image_id for pair in pairs) for pairs in sides.values()}) > 4
    first = [next(pair.left is a for pair in pairs if pair.image_id == 0) for pairs in sides.values()]
    assert 0 < sum(first) < len(first)
    swapped = pairs_of(b, a, "test", 100, "a")
    assert [(p.image_id, p.left.id) for p in swapped] == [(p.image_id, p.left.id) for p in sides["a"]]


def test_fewer_images_are_among_more(study: Study) -> None:
    a, b = two_trials(study.results)
    few, many = ({p.image_id for p in pairs_of(a, b, "test", n, "ada")} for n in (3, 6))
    assert (len(few), len(many)) == (3, 6)
    assert few < many


def test_what_is_shown_does_not_tell_whose_it_is(client: Client) -> None:
    """Two methods that say the same give the same answer for both sides, and no name is in it."""
    state = client.state()
    left, right = state["pair"].pop("left"), state["pair"].pop("right")
    assert set(left) == set(right) == {"picture", "class"}
    assert left["class"] == right["class"] == "landbird"
    assert "heavy" not in json.dumps(state)
    assert set(state["pair"]) == {"image", "photograph"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/vote", {"image": 0, "choice": "left"}, {"Origin": "http://evil.example"}, 403),
        ("/vote", {"image": 0, "choice": "left"}, {"Origin": "null"}, 403),
        ("/vote", {"image": 0, "choice": "left"}, {"Origin": "http://127.0.0.1:1"}, 403),
        (
            "/vote",
            {"image": 0, "choice": "left"},
            {"Host": "evil.example:80", "Origin": "http://evil.example:80"},
            403,
        ),
        ("/state", None, {"Host": "evil.example"}, 403),
        ("/state", None, {"Host": "10.0.0.1"}, 403),
        ("/state", None, {"Host": "[::1"}, 403),
        ("/vote", {"image": 0, "choice": "left"}, {"Content_Type": "text/plain"}, 415),
        ("/vote", "{not json", {}, 400),
        ("/vote", "[1]", {}, 400),
        ("/vote", {"image": "0", "choice": "left"}, {}, 400),
        ("/vote", {"image": True, "choice": "left"}, {}, 400),
        ("/vote", {"image": 0, "choice": 1}, {}, 400),
        ("/vote", {"image": 0, "choice": "a" * 2000}, {}, 413),
        ("/vote", {"image": 0, "choice": "left"}, {"Content_Length": "-1"}, 413),
        ("/vote", {"image": 0, "choice": "best"}, {}, 409),
        ("/vote", {"image": 77777, "choice": "left"}, {}, 409),
        ("/../../etc/passwd", None, {}, 404),
        ("/templates/prefer.html", None, {}, 404),
        ("/elsewhere", {"image": 0}, {}, 404),
    ],
)
def test_what_the_page_would_not_ask_is_refused(
    client: Client, study: Study, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    got, answer = client.ask(path, body, **headers)
    assert (got, set(answer)) == (status, {"error"})
    assert stored(study) == []


def test_a_request_without_an_origin_is_no_vote(client: Client, study: Study) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.request(
        "POST", "/vote", '{"image": 0, "choice": "left"}', {"Content-Type": "application/json"}
    )
    assert connection.getresponse().status == 403
    assert stored(study) == []


def test_an_image_has_one_vote_however_many_ask_at_once(client: Client, study: Study) -> None:
    image = client.state()["pair"]["image"]
    got: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: got.append(Client(client.port).ask("/vote", {"image": image, "choice": "left"})[0])
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [200, 409, 409, 409, 409, 409]
    assert len(stored(study)) == 1


@pytest.mark.parametrize("loss", ["gone", "broken"])
def test_a_vote_that_is_not_in_the_store_is_never_confirmed(
    client: Client, tmp_path: Path, loss: str
) -> None:
    image = client.vote("left")["pair"]["image"]
    for path in tmp_path.glob("results.db*"):
        if loss == "gone":
            path.unlink()
        else:
            path.write_bytes(b"no database" * 1000)
    status, answer = client.ask("/vote", {"image": image, "choice": "left"})
    assert status == 503
    assert "the results store was lost" in answer["error"]
    assert "\n" not in answer["error"]


def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    status, page = client.ask("/")
    assert status == 200
    assert not re.search(r"(https?:)?//[a-z]", page.replace("// ", ""))
    assert "default-src 'none'" in client.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in client.headers["Content-Security-Policy"]


def test_a_host_given_by_name_or_number_is_answered_and_others_are_not(study: Study) -> None:
    server = serve(study, "0.0.0.0", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        client = Client(server.server_port)
        assert client.ask("/state", Host="192.168.0.7:80")[0] == 200
        assert client.ask("/state", Host="localhost")[0] == 200
        assert client.ask("/state", Host="evil.example")[0] == 403
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_the_command_serves_finished_trials_until_it_is_interrupted(
    finished: Finished, tmp_path: Path
) -> None:
    ids = finished.ids
    shell = Shell(finished.home, tmp_path / "counted.log")
    arguments = ("--left", "lf_cbm", "--right", ids["salf_cbm"][:9], "--rater", "ada", "--images", "5")
    server = shell.start("grid", "prefer", "small", *arguments, "--port", "0")
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.match(r"5 images for ada: http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + server.stdout.read()
        client = Client(int(found[1]))
        for choice in ("left", "right", "tie", "tie", "left"):
            state = client.vote(choice)
        assert state["pair"] is None
    finally:
        os.kill(server.pid, signal.SIGINT)
        said, _ = server.communicate(timeout=SLOW)
    assert (server.returncode, said) == (0, "votes are stored: python -m analysis preferences small\n")
    (row,) = json.loads(shell.run("analysis", "preferences", "small", "--json"))
    assert (row["n"], row["discord_share"], row["rater"]) == (5, 0.4, "ada")
    assert row["a"].startswith("lf_cbm")
    assert "40.0 % [11.8, 76.9]" in shell.run("analysis", "preferences", "small")


@pytest.mark.slow
def test_in_the_background_a_polite_kill_ends_it_as_ctrl_c_does(finished: Finished, tmp_path: Path) -> None:
    shell = Shell(finished.home, tmp_path / "counted.log")
    arguments = ("--left", "lf_cbm", "--right", "salf_cbm", "--rater", "eve", "--port", "0")
    server = shell.start("grid", "prefer", "small", *arguments, background=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r" images for eve: http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + server.stdout.read()
        os.kill(server.pid, signal.SIGINT)
        assert Client(int(found[1])).ask("/state")[0] == 200
    finally:
        os.kill(server.pid, signal.SIGTERM)
        said, _ = server.communicate(timeout=SLOW)
    assert (server.returncode, said) == (0, "votes are stored: python -m analysis preferences small\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["other"], "experiment 'other': none in the results store"),
        (["small"], "give --left and --right; small has trials of lf_cbm, salf_cbm, standard"),
        (["small", "--left", "lf_cbm"], "give --left and --right together"),
        (["small", "--left", "lf_cbm", "--right", "lime"], "finished trials of both 'lf_cbm' and 'lime'"),
        (["small", "--left", "lf_cbm", "--right", "lf_cbm"], "finished trials of both"),
        (["small", "--left", "lf_cbm", "--right", "standard"], "standard has no explanations"),
        (
            ["small", "--left", "lf_cbm", "--right", "salf_cbm", "--dataset", "x"],
            "no data set of small has finished trials of both",
        ),
        (
            ["small", "--left", "lf_cbm", "--right", "salf_cbm", "--host", "nowhere.invalid"],
            "cannot listen on nowhere.invalid:8400",
        ),
    ],
)
def test_the_command_refuses_in_one_line(
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["grid", "prefer", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert reason in said
    assert said.count("\n") == 1


def test_images_that_one_trial_did_not_explain_are_left_out(study: Study) -> None:
    _, b = two_trials(study.results)
    partly, _ = two_trials(study.results, explained=np.array([0, 3, 4]))
    assert {pair.image_id for pair in pairs_of(partly, b, "test", 100, "ada")} == {0, 3, 4}

import re
import time
import traceback

import pytest

from components.vocabularies import openai_compatible
from components.vocabularies.openai_compatible import OpenAiCompatible
from components.vocabularies.provider import ProviderError
from tests.fake_language_model import Reply, completion, language_model

KEY = "sk-Very+Secret/0123456789"


@pytest.fixture
def server():
    with language_model() as running:
        yield running


def client(server, **changes):
    knobs = {"url": server.url, "model": "small", "key": KEY, "first_wait": 0.001, "timeout": 5.0}
    return OpenAiCompatible(**{**knobs, **changes})


def failure(asked):
    """The message of the ProviderError; its whole traceback must not hold the key."""
    with pytest.raises(ProviderError) as caught:
        asked.answer("?")
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown + repr(caught.value) + repr(asked) + str(asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_asked_is_the_protocol_and_the_recipe(server):
    server.answer = lambda prompt: f"- {prompt} é"
    assert client(server, url=server.url + "/").answer('a "wing"\n- x') == '- a "wing"\n- x é'
    ((path, headers, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "model": "small",
        "messages": [{"role": "user", "content": 'a "wing"\n- x'}],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    client(server, key="").answer("?")
    assert "Authorization" not in server.asked[1][1]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b'{"error": {"message": "slow down"}}', 429),
        Reply(b"oops", 500),
        Reply(b"", 503),
        Reply(status=0),
        Reply(b"{not json"),
        Reply(b"[]"),
        Reply(b'{"choices": []}'),
        Reply(completion(None)),
        Reply(completion("  \n", "length")),
        Reply(b"\xff\xfe"),
        Reply(b"cut", headers={"Content-Length": "100"}),
    ],
    ids=lambda reply: f"{reply.status} {reply.body[:20]!r}",
)
def test_what_may_pass_is_asked_again(server, reply):
    if reply.headers:
        reply.headers["Connection"] = "close"
    server.replies = [reply, reply]
    assert client(server).answer("?") == "- a wing"
    assert len(server.asked) == 3


def test_waits_double_and_end(server, monkeypatch):
    waits = []
    monkeypatch.setattr(openai_compatible, "sleep", waits.append)
    monkeypatch.setattr(openai_compatible, "uniform", lambda low, high: low)
    server.replies = [Reply(b'{"error": "overloaded"}', 503)] * 9
    said = failure(client(server, first_wait=1.0, attempts=5))
    assert waits == [1, 2, 4, 8]
    assert len(server.asked) == 5
    assert said == f"{server.url}: answered 503: overloaded, asked 5 times"


def test_a_server_may_say_how_long_to_wait_within_reason(server, monkeypatch):
    waits = []
    monkeypatch.setattr(openai_compatible, "sleep", waits.append)
    monkeypatch.setattr(openai_compatible, "uniform", lambda low, high: low)
    for value in ("7", "86400", "Wed, 21 Oct 2015 07:28:00 GMT", "-3"):
        server.replies.append(Reply(b"", 429, {"Retry-After": value}))
    client(server, first_wait=0.5).answer("?")
    assert waits == [7, 60, 2, 4]


def test_a_server_that_does_not_answer_in_time_is_left(server):
    server.replies = [Reply(completion("late"), delay=1.0)] * 2
    started = time.monotonic()
    said = failure(client(server, timeout=0.1, attempts=2))
    assert time.monotonic() - started < 0.9
    assert "timed out" in said
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(b'{"error": {"message": "Incorrect key: ' + KEY.encode() + b'"}}', 401), "key is wrong"),
        (Reply(b"<html>" + KEY.encode() + b"</html>", 403), "403"),
        (Reply(b"", 401, reason=f"bad {KEY}"), "401"),
        (Reply(b'{"error": {"message": "no model small"}}', 404), "no model small"),
        (Reply(b'{"error": {"message": "max_tokens\\nis not known\\u001b[31m"}}', 400), "max_tokens is not"),
        (Reply(b'{"error": {"other": 1}}', 400), "400"),
        (Reply(b"x" * 9999, 422), "…"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_what_cannot_pass_is_asked_once_and_told_in_one_line_without_the_key(server, reply, says):
    server.replies = [reply]
    said = failure(client(server))
    assert says in said
    assert len(server.asked) == 1
    assert len(said) < 400
    assert said.isprintable()


def test_a_missing_key_is_told_from_a_wrong_one(server):
    server.replies = [Reply(b'{"error": {"message": "who are you?"}}', 401)]
    with pytest.raises(ProviderError, match="no key was given"):
        client(server, key="").answer("?")


def test_a_redirect_is_not_followed(server):
    with language_model() as other:
        for status in (301, 302, 307, 308):
            server.replies = [Reply(b"", status, {"Location": f"{other.url}/chat/completions"})]
            assert str(status) in failure(client(server))
        assert other.asked == []


def test_nobody_at_the_address(server):
    port = int(re.search(r":(\d+)/", server.url)[1])
    server.shutdown()
    server.server_close()
    said = failure(client(server, attempts=2))
    assert f"127.0.0.1:{port}" in said
    assert "refused" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "api.openai.com/v1"}, "address such as"),
        ({"url": "file:///etc/passwd"}, "address such as"),
        ({"url": f"https://user:{KEY}@host/v1"}, "no user, password"),
        ({"url": f"https://host/v1?key={KEY}"}, "no user, password"),
        ({"url": f"https://host:{KEY}/v1"}, "address such as"),
        ({"url": f"https://[{KEY}/v1"}, "address such as"),
        ({"url": "https://host/v1\r\nX: y"}, "address such as"),
        ({"url": "http://host/v1"}, "clear text"),
        ({"url": "http://localhost.host/v1"}, "clear text"),
        ({"key": f"{KEY}\nX: y"}, "line ends"),
        ({"key": "schlüssel"}, "ASCII"),
    ],
)
def test_an_unsafe_address_or_key_is_refused_before_anything_is_sent(changes, says):
    knobs = {"url": "https://host/v1", "model": "m", "key": KEY, **changes}
    with pytest.raises(ValueError, match=says) as caught:
        OpenAiCompatible(**knobs)
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert KEY[:14] not in shown  # where a slash in it ends what is taken for the host
    assert knobs["key"] not in str(caught.value)


def test_the_key_is_in_no_representation():
    provider = OpenAiCompatible(url="https://host/v1", model="m", key=KEY)
    assert KEY not in f"{provider!r} {provider}"
    assert "model='m'" in repr(provider)

"""A server on loopback that speaks OpenAI's chat protocol and answers what it is told to."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


def completion(text: Any, finish_reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


@dataclass
class Reply:
    """status 0: the connection is closed without a word. delay: seconds before the first byte."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reason: str | None = None


class FakeLanguageModel(http.server.ThreadingHTTPServer):
    """`replies` are used up first, one a request; then `answer(prompt)` is what the model says. `asked`:
    headers and body of every request; `busiest`: the most requests that were there at a time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.answer: Callable[[str], str] = lambda prompt: "- a wing"
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.lock = threading.Lock()
        self.here = self.busiest = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for _, _, body in self.asked]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that had no patience."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeLanguageModel

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked.append((f"GET {self.path}", dict(self.headers), None))
        self.send_error(405)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, dict(self.headers), body))
            self.server.here += 1
            self.server.busiest = max(self.server.busiest, self.server.here)
            reply = self.server.replies.pop(0) if self.server.replies else None
        try:
            if reply is None:
                reply = Reply(completion(self.server.answer(body["messages"][-1]["content"])))
            time.sleep(reply.delay)
        finally:
            with self.server.lock:
                self.server.here -= 1
        if reply.status == 0:
            self.close_connection = True
            return
        self.send_response(reply.status, reply.reason)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def language_model() -> Iterator[FakeLanguageModel]:
    """The server, running."""
    server = FakeLanguageModel()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

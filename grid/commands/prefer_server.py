"""The page of `python -m grid prefer`, and the requests that it makes. One server is one rater's study."""

import contextlib
import ipaddress
import json
import traceback
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from grid.commands.preference import Study
from grid.free_text import redacted
from grid.refused import Refused

PAGE = Path(__file__).parent / "templates" / "prefer.html"
LOOPBACK = ("127.0.0.1", "localhost")
BODY_LIMIT = 1000  # bytes
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Content = bytes | dict[str, Any]  # the page, or JSON


class WrongRequest(Exception):  # noqa: N818 (reads as what happened)
    """A request that the page does not make: a status and one line."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def serve(study: Study, host: str, port: int) -> ThreadingHTTPServer:
    """Listens, and answers once `serve_forever` is called. OSError if host and port cannot be had."""
    return ThreadingHTTPServer((host, port), partial(Handler, study, host))


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /state the study's state; POST /vote and /undo take JSON and give the new state.

    A page of another site must not vote: the request has to name this server as its host (no name that
    another site could point here) and, to write, as its origin, and its body must be JSON.
    """

    timeout = 30

    def __init__(self, study: Study, host: str, *arguments: Any) -> None:
        self.study, self.host = study, host
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the terminal shows no requests."""

    def _get(self) -> Content:
        if self.path == "/":
            return PAGE.read_bytes()
        if self.path == "/state":
            return self.study.state()
        raise WrongRequest(HTTPStatus.NOT_FOUND, "no such page")

    def _post(self) -> dict[str, Any]:
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            raise WrongRequest(HTTPStatus.FORBIDDEN, "the request comes from another site")
        body = self._json()
        if self.path == "/undo":
            self.study.undo()
        elif self.path == "/vote":
            image, choice = body.get("image"), body.get("choice")
            if type(image) is not int or not isinstance(choice, str):
                raise WrongRequest(HTTPStatus.BAD_REQUEST, "a vote is an image's id and a choice")
            self.study.vote(image, choice)
        else:
            raise WrongRequest(HTTPStatus.NOT_FOUND, "no such page")
        return self.study.state()

    def _json(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json":
            raise WrongRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be JSON")
        if not length.isdecimal() or int(length) > BODY_LIMIT:
            raise WrongRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long, or of no length")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise WrongRequest(HTTPStatus.BAD_REQUEST, "the body is not JSON") from error
        if not isinstance(body, dict):
            raise WrongRequest(HTTPStatus.BAD_REQUEST, "the body is not an object")
        return body

    def _answer(self, method: Callable[[], Content]) -> None:
        status, content = self._result(method)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "text/html; charset=utf-8" if isinstance(content, bytes) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        # a page that was closed meanwhile asks again when it is opened
        with contextlib.suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def _result(self, method: Callable[[], Content]) -> tuple[HTTPStatus, Content]:
        try:
            if not self._names_this_server():
                raise WrongRequest(HTTPStatus.FORBIDDEN, "the request names another host")
            return HTTPStatus.OK, method()
        except WrongRequest as error:
            return error.status, {"error": str(error)}
        except Refused as error:
            return HTTPStatus.CONFLICT, {"error": str(error)}
        except SQLAlchemyError as error:
            lost = redacted(str(getattr(error, "orig", None) or error)).splitlines()[0]
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"the results store was lost: {lost}"}
        except Exception as error:  # such as an image that is gone: the page is told, the terminal the rest
            traceback.print_exc()
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"{type(error).__name__}: {error}"}

    def _names_this_server(self) -> bool:
        """Whether the header Host is a name that no other site can point here: loopback's, or, where more
        than loopback listens, the name given or an address in numbers."""
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            return False
        return name in LOOPBACK or (self.host not in LOOPBACK and (name == self.host or _is_address(name)))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""A server on the loopback that breaks off, stalls and redirects, and what it serves."""

import hashlib
import http.server
import time
from typing import Any

CONTENT = bytes(range(256)) * 5000  # 1.2 MiB: more than one chunk


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`. `cut`: the connection is closed after so many bytes, once; `ranges`: whether it can
    go on in the middle of a file; `redirects`: path to address; `asked`: path and headers of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.cut: int | None = None
        self.ranges, self.stalls = True, False
        self.asked: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.asked.append((path, dict(self.headers)))
        if path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[path])
            self.end_headers()
            return
        if path not in self.server.files:
            self.send_error(404)
            return
        content, start = self.server.files[path], 0
        if self.server.ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(content[start:cut])
        while self.server.stalls:
            time.sleep(0.05)

    def log_message(self, *arguments: Any) -> None:
        pass

"""Whatever answers at the address of a cluster, or does not, is one line at once, before Ray is asked."""

import http.server
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from grid.stages import address as asked
from grid.stages.address import ClusterError
from grid.stages.cluster import cluster as connected
from tests.grid.stages.ray_head import free_ports

TOKEN, OTHER = "a" * 64, "b" * 64


def refusal_of(address: str | None) -> str:
    with pytest.raises(ClusterError) as refused, connected(address):
        pass
    (line,) = str(refused.value).splitlines()
    return line


def test_an_address_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    assert refusal_of(address).startswith(f"no Ray cluster at {address}: [Errno 111]")
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert address in refusal_of(None)
    assert address in refusal_of("auto"), "the variable is stronger than what Ray finds"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8265",
        "here",
        "ray://",
        "127.0.0.1:99999",
        "a b:1",
        "h:",
        " 127.0.0.1:6379",
        "::1:6379",
    ],
)
def test_an_address_of_another_form(address: str) -> None:
    assert address in refusal_of(address)


def test_a_server_for_clients_that_are_elsewhere() -> None:
    """Trials have half of their driver in Tune, which would run at the head."""
    assert "python -m grid submit" in refusal_of("ray://127.0.0.1:10001")


def test_something_else_that_listens() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        assert refusal_of(address).startswith(f"something listens at {address}, but not as a Ray ")
        server.shutdown()


def test_something_that_listens_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "not as a Ray head" in refusal_of(f"127.0.0.1:{silent.getsockname()[1]}")


class Guard(grpc.ServerInterceptor):
    """Lets in who shows the token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        if f"Bearer {self._token}" in dict(details.invocation_metadata).values():
            return continuation(details)

        def refuse(request: Any, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "")

        return grpc.unary_unary_rpc_method_handler(refuse)


@contextmanager
def head_of(version: str, *guards: Guard) -> Iterator[str]:
    """The address of what answers as the head of a Ray of this version does."""

    class Nodes(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
        def CheckAlive(self, request: Any, context: Any) -> Any:  # noqa: N802  Ray's own name
            return gcs_service_pb2.CheckAliveReply(ray_version=version)

    server = grpc.server(ThreadPoolExecutor(1), interceptors=guards)
    gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(Nodes(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


def test_a_ray_of_another_version() -> None:
    with head_of("2.9.3") as address:
        line = refusal_of(address)
    assert f"has Ray 2.9.3, this Python {ray.__version__}" in line


@pytest.fixture
def shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What this process has to show: these variables and no others of Ray's."""

    def show(**environment: str) -> None:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.setenv(name, "")  # so that it is put back, whatever becomes of it
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        AuthenticationTokenLoader.instance().reset_cache()

    return show


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "there is none here"),
        ({"RAY_AUTH_MODE": "token"}, "there is none here"),
        ({"RAY_AUTH_TOKEN": OTHER}, "not the one that is set here"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": OTHER}, "not the one that is set here"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN}, "RAY_AUTH_MODE=disabled here"),
    ],
)
def test_a_token_that_is_missing_or_wrong(
    environment: dict[str, str], reason: str, shows: Callable[..., None]
) -> None:
    shows(**environment)
    with head_of(ray.__version__, Guard(TOKEN)) as address:
        line = refusal_of(address)
    assert reason in line
    assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in line
    assert os.environ.get("RAY_AUTH_MODE") == environment.get("RAY_AUTH_MODE"), "as it was"


def test_a_token_that_fits_needs_no_mode(shows: Callable[..., None]) -> None:
    shows(RAY_AUTH_TOKEN=TOKEN)
    with head_of(ray.__version__, Guard(TOKEN)) as address:
        assert asked.knock(address) == address
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_cluster_that_wants_no_token_takes_any(shows: Callable[..., None]) -> None:
    shows(RAY_AUTH_TOKEN=TOKEN)
    with head_of(ray.__version__) as address:
        assert asked.knock(address) == address
    assert "RAY_AUTH_MODE" not in os.environ

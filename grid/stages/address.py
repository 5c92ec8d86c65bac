"""What answers at the address of a Ray cluster. Ray itself tries for long, and prints pages."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from grid.refused import Refused
from grid.stores.home import RAY_ADDRESS

AUTH_MODE = "RAY_AUTH_MODE"  # Ray's own variable: `token` or `disabled`
PATIENCE = 10.0  # seconds for a cluster to answer at all
FORMS = f"give auto, or host:port of a head (--address, or {RAY_ADDRESS})"
ELSEWHERE = (
    "run on a node of the cluster with --address auto, or submit from here with `python -m grid submit`"
)
TOKEN_AS_THERE = f"set {AUTH_MODE}=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file) as on its head"


class ClusterError(Refused):
    """The cluster cannot do what is asked; one line says what is short."""


def knock(address: str) -> str:
    """The address as Ray shall have it, `auto` resolved, if a Ray of this version answers there and lets this
    process in; else ClusterError. Where the cluster wants a token, RAY_AUTH_MODE becomes `token`."""
    if address == "auto":
        address = _running_here()
    if address.startswith("ray://"):  # Ray's Tune would take the driver's half of the trials to the head
        raise ClusterError(
            f"Ray address {address!r}: no run is driven from outside of its cluster: {ELSEWHERE}"
        )
    form = re.fullmatch(r"(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})", address)
    if form is None:
        raise ClusterError(f"Ray address {address!r}: {FORMS}")
    try:
        socket.create_connection((form["host"].strip("[]"), int(form["port"])), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
    _agree(address)
    return address


def _running_here() -> str:
    """The address of the one cluster that Ray finds on this machine."""
    if stated := os.environ.get(RAY_ADDRESS):
        return stated
    try:
        return str(canonicalize_bootstrap_address("auto"))
    except (ConnectionError, ValueError) as error:
        raise ClusterError(f"no Ray cluster runs on this machine: {error}") from error


def _agree(address: str) -> None:
    """ClusterError if the cluster wants a token and does not take ours. One that wants none takes any."""
    stated = os.environ.get(AUTH_MODE)
    with _mode("disabled"):
        if _lets_in(address):
            return
    wants = f"the Ray cluster at {address} wants a token"
    if stated is not None and stated.lower() != "token":
        raise ClusterError(f"{wants}, and {AUTH_MODE}={stated} here: {TOKEN_AS_THERE}")
    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        raise ClusterError(f"{wants}, and there is none here: {TOKEN_AS_THERE}")
    with _mode("token"):
        if not _lets_in(address):
            raise ClusterError(f"{wants}, and not the one that is set here: {TOKEN_AS_THERE}")
    _set_mode("token")


@contextmanager
def _mode(mode: str) -> Iterator[None]:
    before = os.environ.get(AUTH_MODE)
    _set_mode(mode)
    try:
        yield
    finally:
        _set_mode(before)


def _set_mode(mode: str | None) -> None:
    if mode is None:
        del os.environ[AUTH_MODE]
    else:
        os.environ[AUTH_MODE] = mode
    Config.initialize("")  # Ray read the variable when it was imported


def _lets_in(address: str) -> bool:
    """Whether the cluster answers to what this process shows; ClusterError if no Ray of this version does."""
    with _channel(address) as channel:
        try:
            version = _head(channel, PATIENCE).ray_version
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ClusterError(
                f"something listens at {address}, but not as a Ray head does: {FORMS}"
            ) from error
    if version != ray.__version__:
        raise ClusterError(
            f"the Ray cluster at {address} has Ray {version}, this Python {ray.__version__}: install the same"
        )
    return True


def answers(address: str, timeout: float) -> bool:
    """Whether the head at the address answers within `timeout` seconds."""
    with _channel(address) as channel:
        try:
            _head(channel, timeout)
        except grpc.RpcError:
            return False
    return True


def _channel(place: str) -> Any:
    return init_grpc_channel(place, options=[("grpc.enable_http_proxy", 0)])


def _head(channel: grpc.Channel, timeout: float) -> Any:
    """What the head says of itself, such as its `ray_version`."""
    stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
    return stub.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=timeout)

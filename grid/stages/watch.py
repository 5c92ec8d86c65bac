"""Notices that the cluster is gone. Ray waits for a minute, and then ends the process where it stands."""

import os
import threading
import time
from collections.abc import Callable

import grpc
import ray

from grid.stages.address import is_on

RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's own variable: when it ends the process
RAYS_PATIENCE = 60.0  # seconds, where that is not set
TO_WRITE = 25.0  # seconds before that, to say and to write what there is to
EVERY = 2.0  # seconds


def patience() -> float:
    """Seconds without an answer after which the cluster is gone: 35, or what Ray's own variable allows."""
    return max(float(os.environ.get(RECONNECT, RAYS_PATIENCE)) - TO_WRITE, 5.0)


class Watch:
    """Asks the cluster's head from a thread of its own, and calls `lost` with the reason, once, when it has
    been silent for too long, or has given up the node that this process is on."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        context = ray.get_runtime_context()
        self._address, self._node = context.gcs_address, bytes.fromhex(context.get_node_id())
        self._lost = lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        allowed, answered = patience(), time.monotonic()
        while not self._stop.wait(EVERY):
            if self.sees_it():
                answered = time.monotonic()
            elif time.monotonic() - answered > allowed:
                self._lost(f"no answer from {self._address} for {allowed:.0f} s")
                return

    def sees_it(self) -> bool:
        """Whether the head answers now, and counts the node that this process is on as alive."""
        try:
            return is_on(self._address, self._node, timeout=EVERY)
        except grpc.RpcError:
            return False

    def stop(self) -> None:
        """No more questions."""
        self._stop.set()
        self._thread.join()

"""Notices that the cluster is gone. Ray waits for a minute, and then ends the process where it stands."""

import os
import socket
import threading
import time
from collections.abc import Callable

import ray

from grid.stages.address import answers

RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's own variable: when it ends the process
RAYS_PATIENCE = 60.0  # seconds, where that is not set
TO_WRITE = 25.0  # seconds before that, to say and to write what there is to
EVERY = 2.0  # seconds


def patience() -> float:
    """Seconds without an answer after which the cluster is gone: 35, or what Ray's own variable allows."""
    return max(float(os.environ.get(RECONNECT, RAYS_PATIENCE)) - TO_WRITE, 5.0)


class Watch:
    """Asks from a thread of its own, and calls `lost` with the reason, once: when the cluster's head has been
    silent for too long, or at once when the node that this process is on has ended, which Ray survives for
    some seconds only."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        context = ray.get_runtime_context()
        self._head = context.gcs_address
        (node,) = (node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
        self._node = node["NodeManagerAddress"], node["NodeManagerPort"]
        self._lost = lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        allowed, answered = patience(), time.monotonic()
        while not self._stop.wait(EVERY):
            if self._node_has_ended():
                self._lost("its node here, {}:{}, has ended".format(*self._node))
                return
            if answers(self._head, EVERY):
                answered = time.monotonic()
            elif time.monotonic() - answered > allowed:
                self._lost(f"no answer from {self._head} for {allowed:.0f} s")
                return

    def _node_has_ended(self) -> bool:
        try:
            socket.create_connection(self._node, EVERY).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # busy
        return False

    def is_in_touch(self) -> bool:
        """Whether head and node are there now."""
        return answers(self._head, EVERY) and not self._node_has_ended()

    def stop(self) -> None:
        """No more questions."""
        self._stop.set()
        self._thread.join()

"""Is the process of a launch still there?"""

import os
import socket
from datetime import UTC, datetime

import psutil

SILENT_AFTER_S = 60.0  # a launch on another host, seen by its heartbeat only
CLOCK_TOLERANCE_S = 2.0


def this_process() -> dict[str, str | int | float]:
    """Host, pid and start time (seconds since 1970) of this process."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "process_started": _started(pid) or 0.0}


def is_alive(host: str, pid: int, process_started: float, heartbeat_at: str) -> bool:
    """On this host: the pid with that start time runs. Elsewhere: a heartbeat in the last 60 s."""
    if host == socket.gethostname():
        started = _started(pid)
        return started is not None and abs(started - process_started) < CLOCK_TOLERANCE_S
    silent = datetime.now(UTC) - datetime.fromisoformat(heartbeat_at)
    return silent.total_seconds() < SILENT_AFTER_S


def _started(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None

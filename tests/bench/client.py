"""How long `hostler status` takes, start to end, beside programs that do nothing or do the same over D-Bus.

Every program runs in turn, round after round, so that a busy moment hits all of them alike; printed are medians and
their ratio to a Python that does nothing. The daemon is the real socket face over a service that answers at once; for
busctl a private bus answers a call of its own. Exit status 1 where `hostler status` takes longer than TARGET.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio

from hostler.connection import Connection
from hostlerd.api import Json, Peer, Published
from hostlerd.api import socket as face

ROUNDS = 40
TARGET = 0.040
"""Seconds for `hostler status` on a quiet machine."""
TREE = Path(__file__).parents[2]
LAUNCHER = "import sys; from hostler.cli import main; sys.exit(main())"
STATUS = {
    "version": "0",
    "state": "converged",
    "pass": 1,
    "devices": 1,
    "domains": 1,
    "isolation": {"cpus": [2, 3], "for": ["win11"]},
    "degraded": [],
}
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={0}</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""


class Answering:
    """A service with one answer."""

    published = Published()

    async def call(self, _peer: Peer, _method: str, _params: Mapping[str, Any]) -> Json:
        return STATUS

    def subscribe(self) -> trio.MemoryReceiveChannel[Json]:
        raise NotImplementedError

    async def wait_published(self, _previous: Published) -> Published:
        raise NotImplementedError


@contextmanager
def daemon(path: str) -> Iterator[None]:
    ready = threading.Event()
    scope = trio.CancelScope()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def run() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(face.serve, Answering(), [face.listen(path)])
                ready.set()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        tokens[0].run_sync_soon(scope.cancel)
        thread.join()


@contextmanager
def private_bus(folder: str) -> Iterator[str]:
    Path(f"{folder}/bus.conf").write_text(BUS.format(f"{folder}/bus"))
    command = ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"unix:path={folder}/bus"
        finally:
            process.terminate()


def seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def round_trip(path: str, calls: int = 2000) -> float:
    """Seconds of one call on an open connection."""
    with Connection(path) as client:
        began = time.perf_counter()
        for _ in range(calls):
            client.call("status")
        return (time.perf_counter() - began) / calls


def programs(path: str, bus: str | None) -> dict[str, list[str]]:
    found = {
        "python3 -c pass": [sys.executable, "-c", "pass"],
        "hostler status": [sys.executable, "-c", LAUNCHER, "status"],
        "hostler status --json": [sys.executable, "-c", LAUNCHER, "status", "--json"],
        "python3 with argparse": [sys.executable, "-c", "import argparse, socket, msgpack, json"],
    }
    if launcher := shutil.which("hostler", path=os.path.dirname(sys.executable)):
        found["hostler status, as installed"] = [launcher, "status"]
    if bus is not None:
        name = "org.freedesktop.DBus"
        found["busctl call"] = [
            "busctl",
            f"--address={bus}",
            "call",
            name,
            "/org/freedesktop/DBus",
            name,
            "GetId",
        ]
    return found


def main() -> int:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = f"{folder}/s"
        stack.enter_context(daemon(path))
        has_bus = shutil.which("dbus-daemon") and shutil.which("busctl")
        bus = stack.enter_context(private_bus(folder)) if has_bus else None
        environment = os.environ | {"HOSTLER_SOCKET": path, "PYTHONPATH": str(TREE / "client")}
        took: dict[str, list[float]] = {}
        commands = programs(path, bus)
        for _ in range(ROUNDS):
            for name, command in commands.items():
                took.setdefault(name, []).append(seconds(command, environment))
        per_call = round_trip(path)
    base = statistics.median(took["python3 -c pass"])
    for name, times in sorted(took.items(), key=lambda item: statistics.median(item[1])):
        median = statistics.median(times)
        print(f"{name:<30} {median * 1e3:6.1f} ms  (least {min(times) * 1e3:5.1f})  {median / base:4.2f} x")
    print(f"{'one call, connection open':<30} {per_call * 1e6:6.1f} us")
    return int(min(took["hostler status"]) > TARGET)


if __name__ == "__main__":
    sys.exit(main())

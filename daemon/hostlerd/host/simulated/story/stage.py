"""The processes of the story: one daemon on one simulated host, in a folder of its own, and clients of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hostler
import hostlerd
from hostler.connection import Connection
from hostler.errors import HostlerError, Unreachable
from hostler.wire import SIMULATE_METHOD, SOCKET_NAME, SOCKET_VARIABLE
from hostlerd.host.simulated.cgroups import ROOT
from hostlerd.host.simulated.tree import Tree

UP_LIMIT = 15.0
SETTLE_LIMIT = 10.0
COMMAND_LIMIT = 60.0
_PAUSE = 0.04
_USB_BUS = re.compile(r"/usb\d+(/|$)|^/dev/bus/usb/")
BY_NUMBER = ("/dev/char/", "/dev/block/")
_NUMBER = re.compile(r"(card|renderD|controlC|pcmC)\d+")
SLICES = ("init.scope", "system.slice", "user.slice", "machine.slice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


QUIET = (
    "/proc/irq",
    "/proc/sys",
    "/sys/devices/virtual/workqueue",
    "/sys/devices/system/cpu",
    "/sys/module/kvm",
)
"""What is set for the quiet of CPUs."""


class Stage:
    def __init__(self, folder: str, host: str = "desktop") -> None:
        self.folder = folder
        self.host = host
        self.socket = os.path.join(folder, SOCKET_NAME)
        self.policy = os.path.join(folder, "hostler.toml")
        self._daemon: subprocess.Popen[bytes] | None = None
        roots = [os.path.dirname(os.path.dirname(package.__file__ or "")) for package in (hostler, hostlerd)]
        self._environment = {
            **os.environ,
            SOCKET_VARIABLE: self.socket,
            "PYTHONPATH": os.pathsep.join(
                dict.fromkeys([*roots, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
            ),
        }

    # --- the daemon

    def start(self) -> None:
        """Start `hostlerd --sim` and wait until it answers. Raises Unreachable."""
        with open(os.path.join(self.folder, "hostlerd.log"), "ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-P", "-m", "hostlerd", "--sim", self.host, "--runtime", self.folder],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not self.until(self._came_up, UP_LIMIT):
            raise Unreachable(f"the daemon does not answer within {UP_LIMIT:g} s", remedy=self.log())

    def _came_up(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            raise Unreachable(f"the daemon ended with status {self._daemon.returncode}", remedy=self.log())
        return self.answers()

    def answers(self) -> bool:
        """Is it there and answering?"""
        if self._daemon is None or self._daemon.poll() is not None:
            return False
        try:
            self.ask("hello")
        except HostlerError:
            return False
        return True

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, and its exit status."""
        if self._daemon is None:
            return 0
        self._daemon.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Until it has ended by itself; killed where it does not."""
        if self._daemon is None:
            return 0
        try:
            status = self._daemon.wait(UP_LIMIT)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            status = self._daemon.wait()
        self._daemon = None
        return status

    def log(self, lines: int = 15) -> str:
        """The end of what the daemon said."""
        with open(os.path.join(self.folder, "hostlerd.log"), encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    # --- clients

    def client(self, *words: str, stdin: str = "") -> Done:
        """`hostler WORDS`, as a user runs it."""
        return self.finish(self.begin(*words), stdin)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """As `client`, and on while it runs; `finish` waits for it."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "hostler", *words],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def finish(process: subprocess.Popen[str], stdin: str = "") -> Done:
        with process:
            out, err = process.communicate(stdin, timeout=COMMAND_LIMIT)
        return Done(status=process.returncode, out=out, err=err)

    def ask(self, method: str, **params: object) -> Any:
        """One request over the socket. Raises hostler.errors."""
        with Connection(self.socket, limit=COMMAND_LIMIT) as connection:
            return connection.call(method, params, limit=COMMAND_LIMIT)

    def simulate(self, action: str, **params: object) -> Any:
        return self.ask(SIMULATE_METHOD, action=action, **params)

    def settled(self) -> str:
        """The daemon's state once it works no more, or has run out of time."""
        self.until(lambda: self.ask("status")["state"] != "working", SETTLE_LIMIT)
        return str(self.ask("status")["state"])

    # --- the host, from the kernel's side

    def show(self) -> Any:
        return self.simulate("show")

    def tree(self) -> Tree:
        """Every file of the simulated host, from its state file: no daemon is asked."""
        with open(os.path.join(self.folder, "host.json"), encoding="utf-8") as file:
            state = json.load(file)
        tree = Tree()
        tree.load(state["kernel"]["tree"])
        return tree

    def remember(self) -> dict[str, str]:
        """What must be as it was when no domain runs: all files of devices and drivers, what is
        set for quiet CPUs, and the CPUs of slices.

        Left out are vfio-pci itself, since a module that was loaded stays, and the numbers of DRM and sound cards and
        of their nodes, which the kernel gives anew, and USB buses, which are numbered anew.
        """
        tree = self.tree()
        files = tree.flat(
            "/sys/devices/pci0000:00", "/sys/bus/pci", "/sys/kernel/iommu_groups", "/dev", *QUIET
        )
        kept = {
            _NUMBER.sub(r"\1N", path): _NUMBER.sub(r"\1N", text)
            for path, text in files.items()
            if not (
                "/vfio-pci/" in path
                or path.endswith("/dev")
                or path.startswith(BY_NUMBER)
                or _USB_BUS.search(path)
            )
        }
        for unit in SLICES:
            folder = next(f for f in (f"{ROOT}/{unit}", ROOT) if tree.exists(f"{f}/cpuset.cpus.effective"))
            kept[unit] = tree.read(f"{folder}/cpuset.cpus.effective")
        return kept

    def differences(self, before: dict[str, str]) -> list[str]:
        """What is not as before once time enough has passed; empty as soon as everything is."""
        self.until(lambda: self.remember() == before, SETTLE_LIMIT)
        now = self.remember()
        return [
            f"{k}: was {before.get(k)!r}, is {now.get(k)!r}"
            for k in sorted({*before, *now})
            if before.get(k) != now.get(k)
        ]

    @staticmethod
    def until(condition: Callable[[], bool], limit: float) -> bool:
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        return True

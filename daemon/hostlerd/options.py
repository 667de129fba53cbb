"""The daemon's command line. Small on purpose: what it does is said in the policy."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from hostler import __version__
from hostler.wire import POLICY, POLICY_DIRECTORY, RUNTIME_DIRECTORY, SOCKET_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`sim`: name of a built-in host, None for the real one. `bus`: address, "system", or None for no bus."""

    sim: str | None
    runtime: str
    policy: str
    policy_directory: str
    bus: str | None
    verbose: bool

    @property
    def socket(self) -> str:
        return os.path.join(self.runtime, SOCKET_NAME)

    @property
    def journal(self) -> str:
        return os.path.join(self.runtime, "journal")


def parse(argv: Sequence[str]) -> Options:
    """Exits with status 2 on a wrong option, like every program here."""
    parser = argparse.ArgumentParser(
        prog="hostlerd",
        description="Keeps GPUs, CPUs and domains of this host consistent with its policy.",
        epilog="`hostlerd offline` reads recorded hosts and domain XML; see `hostlerd offline --help`.",
    )
    parser.add_argument("--version", action="version", version=f"hostlerd {__version__}")
    parser.add_argument(
        "--sim",
        nargs="?",
        const="desktop",
        metavar="HOST",
        help="run on a simulated host (desktop, lab, server, slices, screen, no-iommu, cgroup-v1)",
    )
    parser.add_argument("--runtime", metavar="DIR", help=f"journal and socket ({RUNTIME_DIRECTORY})")
    parser.add_argument("--policy", metavar="FILE", help=f"policy file ({POLICY})")
    parser.add_argument("--policy-directory", metavar="DIR", help=f"more policy files ({POLICY_DIRECTORY})")
    parser.add_argument("--bus", metavar="ADDRESS", help="D-Bus address (the system bus; none with --sim)")
    parser.add_argument("--verbose", action="store_true", help="log what is looked at, too")
    given = parser.parse_args(argv)
    simulated = given.sim is not None
    if simulated and given.runtime is None:
        parser.error("--sim needs --runtime DIR, so that it never meets the real host's journal")
    return Options(
        sim=given.sim,
        runtime=given.runtime or RUNTIME_DIRECTORY,
        policy=given.policy or (os.path.join(given.runtime, "hostler.toml") if simulated else POLICY),
        policy_directory=given.policy_directory
        or (os.path.join(given.runtime, "hostler.d") if simulated else POLICY_DIRECTORY),
        bus=given.bus or (None if simulated else "system"),
        verbose=given.verbose,
    )

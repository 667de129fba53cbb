"""`hostler doctor`."""

from __future__ import annotations

import os

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage
from hostler.connection import Connection, expect_map
from hostler.errors import Unreachable
from hostler.render import doctor as render
from hostler.wire import SOCKET_VARIABLE

SPEC = Spec(
    "doctor",
    """
What on this host is in the way of giving devices and CPUs to domains, why, and what to do about it: the IOMMU and its
groups, boot parameters, who else tunes the host, hostler's own installation; and the kernel command line for this host.
It looks and tells, and changes nothing. Without the daemon it looks by itself, as far as whoever runs it may. Exit
status 1 where there are warnings, 2 where something is broken.
""",
    options=(
        Option(
            "--root",
            "a recorded host: a folder or a tar file of /sys and /proc files; no daemon",
            value="PATH",
        ),
        Option("--policy", "with --root: the policy in force (none: the defaults)", value="FILE"),
        Option("--all", "what is fine, too, and what each was read from"),
    ),
)
STATUS = {"fine": 0, "warnings": 1, "broken": 2}
LIVE = "/"


def run(arguments: Arguments) -> int:
    root, policy = arguments.value("--root"), arguments.value("--policy")
    if root is None and policy is not None:
        raise Usage("--policy goes with --root", "without it the daemon's own policy counts")
    if root is None:
        try:
            with Connection(arguments.socket) as daemon:
                found = expect_map(daemon.call("doctor"), "doctor")
        except Unreachable:
            if arguments.socket is not None or SOCKET_VARIABLE in os.environ:
                raise  # another daemon was asked for, perhaps of another host
            root = LIVE
        else:
            if arguments.json:
                output.say_json(found)
            else:
                output.say(_show(found, arguments))
            return STATUS.get(str(found.get("state")), STATUS["broken"])
    from hostler.cli import offline  # noqa: PLC0415  brings subprocess

    words = ["doctor", "--root", root, *(["--policy", policy] if policy is not None else [])]
    return offline.run(words, arguments, lambda value: _show(value, arguments))


def _show(found: object, arguments: Arguments) -> str:
    return render.render(expect_map(found, "doctor"), output.style(), everything=arguments.flag("--all"))

"""`hostler cpus`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec
from hostler.connection import Connection, expect_map
from hostler.render import cpus as render

SPEC = Spec(
    "cpus",
    """
The topology as a map: for every level-3 cache its cores, each with its siblings (0+8 is one core of two CPUs), and
their class and highest clock where they differ. Marked are the CPUs that are dedicated to domains now.
""",
    options=(
        Option(
            "--root",
            "a recorded host: a folder or a tar file of /sys and /proc files; no daemon",
            value="PATH",
        ),
    ),
)


def run(arguments: Arguments) -> int:
    root = arguments.value("--root")
    if root is not None:
        from hostler.cli import offline  # noqa: PLC0415  brings subprocess

        return offline.run(["cpus", "--root", root], arguments, _show)
    with Connection(arguments.socket) as daemon:
        topology = expect_map(daemon.call("cpus"), "cpus")
        if arguments.json:
            output.say_json(topology)
            return 0
        status = expect_map(daemon.call("status"), "status")
    output.say(render.render(topology, output.style(), isolation=status.get("isolation")))
    return 0


def _show(topology: object) -> str:
    return render.render(expect_map(topology, "cpus"), output.style())

"""`hostler cpus`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage
from hostler.connection import Connection, expect_map
from hostler.render import cpus as render
from hostler.render import placement
from hostler.shapes import map_of

SPEC = Spec(
    "cpus",
    """
The host as a map: for every level-3 cache its cores, each with its siblings (0+8 is one core of two CPUs), and their
class and highest clock where they differ. Marked is who has each CPU: 2=A0 is vCPU 0 of the domain A of the legend.
With --what-if the map as it would be if that domain started now, with what would move and what it would reach; nothing
is changed, exit status 4 where its start would be refused.
""",
    options=(
        Option("--what-if", "a domain that does not run, by name or UUID", value="NAME"),
        Option(
            "--root",
            "a recorded host: a folder or a tar file of /sys and /proc files; no daemon",
            value="PATH",
        ),
    ),
)

REFUSED = 4


def run(arguments: Arguments) -> int:
    root, domain = arguments.value("--root"), arguments.value("--what-if")
    if root is not None:
        if domain is not None:
            raise Usage("--what-if does not go with --root", "`hostler plan --root` plans there")
        from hostler.cli import offline  # noqa: PLC0415  brings subprocess

        return offline.run(["cpus", "--root", root], arguments, _show)
    with Connection(arguments.socket) as daemon:
        found = expect_map(daemon.call("cpus", {"what_if": domain} if domain is not None else {}), "cpus")
    if arguments.json:
        output.say_json(found)
    else:
        output.say(_show(found))
        if domain is not None:
            output.say("\n" + placement.what_if(found.get("what_if"), output.style()))
    return REFUSED if map_of(found.get("what_if")).get("refusals") else 0


def _show(topology: object) -> str:
    return render.render(expect_map(topology, "cpus"), output.style())

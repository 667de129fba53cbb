"""`hostler status`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Spec
from hostler.connection import Connection, expect_map
from hostler.render import status as render

SPEC = Spec(
    "status",
    """
What the daemon makes of this host: whether it is as it should be, what is isolated for whom, and what a person must
look at, with the reason and what to do. Exit status 7 where something is degraded.
""",
)
DEGRADED = 7


def run(arguments: Arguments) -> int:
    with Connection(arguments.socket) as daemon:
        status = expect_map(daemon.call("status"), "status")
    if arguments.json:
        output.say_json(status)
    else:
        output.say(render.render(status, output.style()))
    return DEGRADED if status.get("state") == "degraded" else 0

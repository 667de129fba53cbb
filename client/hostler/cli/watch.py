"""`hostler watch`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Spec
from hostler.connection import Connection
from hostler.render import watch as render

SPEC = Spec(
    "watch",
    """
What happens, as it happens: one line an event (with --json one object a line), until Ctrl-C.
""",
)


def run(arguments: Arguments) -> int:
    style = output.style()
    with Connection(arguments.socket) as daemon:
        for event in daemon.subscribe():
            if arguments.json:
                output.say_json(event, line=True)
            else:
                output.say(render.render(event, style))
            output.flush()
    return 0

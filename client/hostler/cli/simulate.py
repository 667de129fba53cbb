"""`hostler simulate`: for a daemon with a simulated host alone."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Spec, Usage
from hostler.connection import Connection, expect_map
from hostler.render.text import clean
from hostler.wire import SIMULATE_METHOD

SPEC = Spec(
    "simulate",
    """
Drive the simulated host of `hostlerd --sim`: its libvirt, its slots, its faults. What it can do is the daemon's to say:
an action that it does not know is answered with those it does.
""",
    words=("ACTION", "[KEY=VALUE...]"),
)
LIMIT = 60.0


def run(arguments: Arguments) -> int:
    params: dict[str, object] = {"action": arguments.words[0]}
    for word in arguments.words[1:]:
        key, sign, value = word.partition("=")
        if not sign or not key or key == "action":
            raise Usage(f"`{word}` is no parameter of an action", "write `name=value`")
        params[key] = value
    with Connection(arguments.socket) as daemon:
        result = expect_map(daemon.call(SIMULATE_METHOD, params, limit=LIMIT), SIMULATE_METHOD)
    if arguments.json:
        output.say_json(result)
    else:
        output.say("\n".join(f"{clean(key)}: {clean(value)}" for key, value in result.items()) or "done")
    return 0

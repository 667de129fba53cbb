"""`hostler retry`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Spec
from hostler.connection import Connection, expect_map
from hostler.render.text import clean

SPEC = Spec(
    "retry",
    """
Let the daemon touch a degraded object again. OBJECT is what `hostler status` names: a PCI address, a
module, a unit, a file, a domain's name.
""",
    words=("OBJECT",),
)
LIMIT = 120.0
"""Seconds; a person may be typing a password for polkit."""


def run(arguments: Arguments) -> int:
    name = arguments.words[0]
    with Connection(arguments.socket) as daemon:
        result = expect_map(daemon.call("retry", {"object": name}, limit=LIMIT), "retry")
    if arguments.json:
        output.say_json(result)
    else:
        output.say(f"{clean(name)} is tried again; `hostler status` says how it went")
    return 0

"""`hostler reload`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Spec
from hostler.connection import Connection, expect_map

SPEC = Spec(
    "reload",
    """
Read the policy (/etc/hostler/hostler.toml and hostler.d/*.toml) again. A wrong file is an error that names the line,
and the policy that was in force stays so.
""",
)
LIMIT = 120.0
"""Seconds; a person may be typing a password for polkit."""


def run(arguments: Arguments) -> int:
    with Connection(arguments.socket) as daemon:
        result = expect_map(daemon.call("reload", limit=LIMIT), "reload")
    if arguments.json:
        output.say_json(result)
    else:
        output.say(
            "the policy was read: it changed"
            if result.get("changed")
            else "the policy was read: nothing changed"
        )
    return 0

"""`hostler pins`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage, nearest
from hostler.connection import Connection, expect_map
from hostler.render import gpu as render

SPEC = Spec(
    "pins",
    """
Write into a domain's definition where it is to begin: a CPU for each vCPU, CPUs for its emulator and, on a host with
several NUMA nodes, where its memory is. Planned as if it started now beside what runs. From its next start on it has
its memory where its vCPUs are; while it runs its pins are moved as ever.

  undo  take back what was written; what was changed by others meanwhile stays

What its definition says already is never overridden. A domain that runs is refused (exit status 4); --dry-run shows
what would be written once it is off. With write_config = true in the policy this is done by itself, whenever the domain
is defined or stops, and others start or stop, and taken back when that is false again.
""",
    words=("DOMAIN", "[undo]"),
    options=(Option("--dry-run", "show the difference and change nothing"),),
)
LIMIT = 120.0
"""Seconds; a person may be typing a password for polkit."""


def run(arguments: Arguments) -> int:
    domain, word = arguments.words[0], arguments.word(1)
    if word not in (None, "undo"):
        raise Usage(f"`{word}` is no word of `hostler pins`", nearest(str(word), ["undo"]) or "leave it out")
    dry_run = arguments.flag("--dry-run")
    params: dict[str, object] = {"domain": domain}
    if word is not None:
        params["undo"] = True
    if dry_run:
        params["dry_run"] = True
    with Connection(arguments.socket) as daemon:
        result = expect_map(daemon.call("pins", params, limit=LIMIT), "pins")
    if arguments.json:
        output.say_json(result)
    else:
        style = output.style()
        output.say(render.render(result, style, dry_run=dry_run, is_undo=word is not None, verb="pins"))
    return 0

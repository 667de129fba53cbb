"""`hostler isolate`: this process becomes the command, so whatever started it sees that one's end and exit status.

Rules: it is moved and has its CPUs before the command begins. The descriptor that the claim hangs on is inherited by
the command and all that it starts: the claim ends with the last of them, or when they close it.
"""

from __future__ import annotations

import os

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage, nearest
from hostler.connection import Connection, expect_map
from hostler.errors import BadInput

SPEC = Spec(
    "isolate",
    """
Run COMMAND on CPUs that nobody else uses, neither domains nor the host's own work, for as long as it or anything that
it started runs. Exit status is COMMAND's; 4 where such CPUs cannot be had, with who has them. Nobody loses any for it.

COMMAND runs in a scope below hostler.slice and is no part of your login session any more: it outlives a logout, the
session's limits do not bound it, and polkit takes what it asks for as coming from nobody who is logged in.
It finds its CPUs in $HOSTLER_CPUS.
""",
    words=("COMMAND", "[ARGUMENTS...]"),
    options=(
        Option("--cpus", "how many: hardware threads, whole cores where they suffice (default 1)", value="N"),
        Option("--same-l3", "only CPUs that share a level-3 cache"),
        Option("--same-node", "only CPUs of one NUMA node"),
        Option(
            "--smt",
            "pair: siblings side by side (default); isolate: a core for each, the siblings empty",
            value="WAY",
        ),
        Option("--class", "only cores of this class: performance or efficiency", value="CLASS"),
        Option(
            "--profile", "how quiet they are: balanced (default), latency, realtime or none", value="PROFILE"
        ),
        Option("--name", "what it is called in `hostler status` (default: the command)", value="NAME"),
    ),
    verbatim=True,
)
LIMIT = 60.0
"""Seconds; a person may be typing a password for polkit."""
NOT_FOUND, NOT_RUN = 127, 126
"""Exit status where COMMAND is not there, or cannot be run, as shells have it."""


def run(arguments: Arguments) -> int:
    command = arguments.words
    if command[0].startswith("-"):
        names = [option.name for option in SPEC.options]
        raise Usage(f"there is no option `{command[0]}` here", nearest(command[0], names) or "see --help")
    params = _params(arguments)
    with Connection(arguments.socket) as daemon:
        result, descriptor = daemon.call_for_descriptor("isolate", params, limit=LIMIT)
    given = expect_map(result, "isolate")
    if arguments.json:
        output.say_json(given, line=True)
    output.flush()
    os.set_inheritable(descriptor, True)  # noqa: FBT003  the standard library's
    os.environ["HOSTLER_CPUS"] = str(given.get("cpus", ""))
    os.environ["HOSTLER_CLAIM"] = str(given.get("id", ""))
    return _become(command)


def _become(command: list[str]) -> int:
    """Returns only where it does not run; then this process ends, and with it the claim."""
    import signal  # noqa: PLC0415  brings enum; only here is it needed

    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores both, and the command would inherit that
    try:
        os.execvp(command[0], command)
    except OSError as error:
        output.complain(f"{command[0]} cannot be run: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN
    except ValueError as error:  # a NUL in a word
        raise BadInput(f"the command cannot be run: {error}") from error


def _params(arguments: Arguments) -> dict[str, object]:
    """Words are the daemon's to judge; that a number is one is said here, with the option's name."""
    params: dict[str, object] = {"name": arguments.value("--name") or _name(arguments.words[0])}
    count = arguments.value("--cpus")
    if count is not None:
        if not (count.isascii() and count.isdecimal()) or len(count) > 5 or int(count) < 1:
            raise Usage(f"`{count}` is no number of CPUs", "write `--cpus 4`")
        params["cpus"] = int(count)
    for option, name in (("--same-l3", "same_l3"), ("--same-node", "same_node")):
        if arguments.flag(option):
            params[name] = True
    for name in ("smt", "class", "profile"):
        word = arguments.value(f"--{name}")
        if word is not None:
            params[name] = word
    return params


def _name(command: str) -> str:
    """As text that can be sent and shown, whatever its bytes are."""
    name = os.path.basename(command).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter for letter in name if letter.isprintable())[:64]

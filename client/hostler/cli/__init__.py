"""The command line: finds the verb, runs it, turns what went wrong into one sentence and an exit status.

Rules: one module a noun, imported only when its verb is called; each has a `SPEC` and a `run(arguments) -> int`. The
time to start is part of the interface (a hook and a status bar call this), so there is no argparse here. Standard
output carries the answer alone; sentences go to standard error. With --json an error is on standard output too, as the
one object there.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from hostler import __version__
from hostler.cli import arguments, output
from hostler.cli.arguments import Arguments, Spec, Usage
from hostler.errors import HostlerError, exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "status": "what the daemon makes of this host, and what a person must look at",
    "devices": "cards: who has each, which programs have it open, what can be done",
    "cpus": "the host as a map: caches, cores, siblings, and who has each CPU",
    "domains": "domains: vCPUs, pins, devices of the host",
    "gpu": "change how a domain has its GPU",
    "isolate": "run a command on CPUs that nobody else uses",
    "pins": "write where a domain begins into its definition, or take it back",
    "plan": "what the daemon would do next and what it refuses, with reasons",
    "doctor": "what is in the way on this host, why, and what to do; the kernel command line for it",
    "watch": "what happens, as it happens",
    "reload": "read the policy again",
    "retry": "try again what was given up as degraded",
    "simulate": "drive a simulated host: its libvirt, its slots, its faults",
    "hook": "what libvirt's qemu hook calls",
}
"""Every verb and its line in the help; a verb is the module of its name."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it: 128 and the signal."""
PIPE_CLOSED = 141
"""Exit status when nobody reads the output any more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv's where None) and return its exit status; raises nothing."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(words)
        output.flush()
    except Usage as error:
        output.complain(error.sentence)
        return 2
    except HostlerError as error:
        return _fail(error, words)
    except BrokenPipeError:
        _close_standard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _run(words: list[str]) -> int:
    given, rest = arguments.split_globals(words)
    if given.flag("--version"):
        output.say(f"hostler {__version__}")
        return 0
    if rest and rest[0] == "help":
        return _help(rest[1:])
    if given.flag("--help"):
        return _help(rest[:1])
    if not rest:
        output.complain_plainly(_overview())
        return 2
    spec, run = _verb(rest[0])
    parsed = arguments.parse(spec, rest[1:], given)
    if parsed.flag("--help"):
        output.say(arguments.describe(spec))
        return 0
    return run(parsed)


def _verb(name: str) -> tuple[Spec, Callable[[Arguments], int]]:
    if name not in VERBS:
        raise Usage(f"there is no verb `{name}`", arguments.nearest(name, VERBS) or "see `hostler --help`")
    module = import_module(f"hostler.cli.{name}")
    return module.SPEC, module.run


def _help(rest: Sequence[str]) -> int:
    output.say(arguments.describe(_verb(rest[0])[0]) if rest else _overview())
    return 0


def _overview() -> str:
    width = max(map(len, VERBS))
    return "\n".join(
        [
            "hostler keeps the GPUs, the CPUs and the domains of this host consistent with a declared policy.",
            "",
            "usage: hostler VERB [options]",
            "",
            *(f"  {verb:<{width}}  {line}" for verb, line in VERBS.items()),
            "",
            *arguments.describe_options(arguments.GLOBALS),
            "",
            "`hostler VERB --help` tells more about one.",
            "Exit status: 0 done or fine, 1 the input or the finding is bad, 2 usage, 3 daemon not reachable,",
            "4 refused, 5 not authorised, 6 timed out, 7 degraded or the host said no; of doctor 1 warnings, 2 broken.",
        ]
    )


def _fail(error: HostlerError, words: Sequence[str]) -> int:
    if "--json" in words:
        try:
            output.say_error(error)
            output.flush()
        except (HostlerError, BrokenPipeError):
            _close_standard_output()
    output.complain(error.sentence)
    return exit_status(error)


def _close_standard_output() -> None:
    """Keep the interpreter from writing what is left, and complaining, when it ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)

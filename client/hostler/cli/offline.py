"""Verbs that need no daemon: `hostlerd offline` reads a recorded host or XML files, this shows what it found.

Rules: `hostler` never imports `hostlerd`; the programs may come in two packages. hostlerd writes JSON to standard
output and sentences to standard error, which pass through; its exit status is ours.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec

from hostler.cli import output
from hostler.errors import Internal, Unreachable
from hostler.shapes import is_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostler.cli.arguments import Arguments

_PROGRAM = "hostlerd"


def run(words: Sequence[str], arguments: Arguments, show: Callable[[object], str]) -> int:
    """Run `hostlerd offline WORDS`, print what it found and return its exit status. Raises Unreachable, Internal."""
    command = find()
    if command is None:
        raise Unreachable(
            f"`hostler {words[0]} {words[1]}` needs the daemon package, and there is no {_PROGRAM} here",
            remedy="install hostlerd (with pip: `hostler[daemon]`)",
        )
    output.flush()
    try:
        done = subprocess.run([*command, "offline", *words], stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise Unreachable(
            f"{command[0]} cannot be started: {error.strerror}", remedy="install hostlerd again"
        ) from error
    if done.returncode < 0:
        raise Internal(f"{_PROGRAM} was ended by {signal.Signals(-done.returncode).name}", remedy="report it")
    text = done.stdout.decode("utf-8", "replace").strip()
    if not text:
        return done.returncode
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise Internal(f"{_PROGRAM} did not answer in JSON: {error}", remedy="report it") from error
    if arguments.json:
        output.say_json(value)
    elif not (is_map(value) and "error" in value) and (shown := show(value)):  # an error was said already
        output.say(shown)
    return done.returncode


def find() -> list[str] | None:
    """hostlerd: beside this program, on PATH, or as a module of this Python. None where it is nowhere."""
    folders = [os.path.dirname(os.path.realpath(sys.argv[0])), os.path.dirname(sys.executable)]
    for folder in dict.fromkeys(folders):
        beside = os.path.join(folder, _PROGRAM)
        if os.path.isfile(beside) and os.access(beside, os.X_OK):
            return [beside]
    on_path = shutil.which(_PROGRAM)
    if on_path is not None:
        return [on_path]
    spec = find_spec(_PROGRAM)
    for folder in (spec and spec.submodule_search_locations) or ():
        if os.path.exists(os.path.join(folder, "__main__.py")):
            return [sys.executable, "-m", _PROGRAM]
    return None

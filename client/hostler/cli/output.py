"""Standard output and standard error, and what the terminal can show."""

from __future__ import annotations

import os
import sys

from hostler.errors import BadInput, HostlerError, to_wire
from hostler.render.text import Style, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def style() -> Style:
    """How to render for standard output: plain unless it is a terminal; NO_COLOR and TERM=dumb are heeded."""
    if not _is_terminal(sys.stdout):
        return Style()
    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Style(color=color, width=_width())


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _width() -> int | None:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def say(text: str) -> None:
    """Print `text` on standard output. Raises BadInput where it cannot be written (a full disk)."""
    try:
        try:
            print(text)
        except UnicodeEncodeError:  # a locale without the letters of a name
            encoding = sys.stdout.encoding or "ascii"
            print(text.encode(encoding, "replace").decode(encoding))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def say_json(value: object, *, line: bool = False) -> None:
    """Print `value` as JSON: indented for a person at a terminal, one line for everything else."""
    import json  # noqa: PLC0415  imports re; only whoever wants JSON pays

    indent = 2 if not line and _is_terminal(sys.stdout) else None
    say(json.dumps(value, indent=indent))


def say_error(error: HostlerError) -> None:
    say_json({"error": to_wire(error)})


def flush() -> None:
    try:
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]  None where descriptor 1 is closed
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> HostlerError:
    return BadInput(f"the output cannot be written: {error.strerror}", remedy="look at where it goes")


def complain(sentence: str) -> None:
    """One sentence on standard error."""
    complain_plainly(f"hostler: {clean(sentence)}")


def complain_plainly(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return  # nobody is left to tell

"""Where log records go, and the fields they carry.

Rules: modules use `logging.getLogger(__name__)` and nothing of this but `about`. What a record is about is in
fields, not only in the sentence: DEVICE, DOMAIN, PASS. They come from `extra={"device": ...}` at the call, or
from `about` around all that is done for one thing. In the journal: `journalctl -u hostlerd
DEVICE=0000:01:00.0`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TextIO

from hostlerd.host.journal import JournalHandler, goes_to_journal

FIELDS = MappingProxyType({"device": "DEVICE", "domain": "DOMAIN", "pass_": "PASS"})
"""Name in `extra` and `about` to name in the journal. `pass` is a word of Python's."""

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


@contextlib.contextmanager
def about(**fields: object) -> Iterator[None]:
    """Records of this task, and of tasks it starts meanwhile, carry these fields: about(device=..., pass_=7)."""
    found = {FIELDS[name]: str(value) for name, value in fields.items()}
    token = _about.set({**_about.get(), **found})
    try:
        yield
    finally:
        _about.reset(token)


def fields_of(record: logging.LogRecord) -> Mapping[str, str]:
    """Those given at the call go before those around it."""
    given = {key: str(getattr(record, name)) for name, key in FIELDS.items() if hasattr(record, name)}
    return {**_about.get(), **given}


def set_up(*, verbose: bool, stream: TextIO = sys.stderr) -> None:
    """Once, in main, before anything is logged."""
    handler: logging.Handler
    if _is_journal(stream):
        handler = JournalHandler(fields_of)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)


def _is_journal(stream: TextIO) -> bool:
    try:
        return goes_to_journal(stream.fileno())
    except OSError:  # a stream without a descriptor
        return False


class LineFormatter(logging.Formatter):
    """`18:03:11 warning act.handoff: sentence [DEVICE=0000:01:00.0 PASS=7]`: one record a line for a terminal."""

    default_msec_format = ""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()} "
        fields = " ".join(f"{key}={value}" for key, value in fields_of(record).items())
        where = record.name.removeprefix("hostlerd.")
        return f"{record.asctime} {level}{where}: {record.message}{f' [{fields}]' if fields else ''}"

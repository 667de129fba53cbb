"""Running the command line in this process."""

import io
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from hostler.cli import main


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Hostler:
    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._monkeypatch = monkeypatch

    def __call__(self, *words: str, stdin: bytes = b"") -> Ran:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(words)
        out, err = self._capfd.readouterr()
        return Ran(status, out, err)


@pytest.fixture
def hostler(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hostler:
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        if name in os.environ:
            monkeypatch.delenv(name)
    return Hostler(capfd, monkeypatch)

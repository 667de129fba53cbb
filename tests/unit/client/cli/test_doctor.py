"""`hostler doctor`: the daemon asked, a recording read, or this host looked at without a daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hostler.wire import SOCKET_VARIABLE

FINE = {"state": "fine", "findings": []}


@pytest.fixture
def hostlerd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In hostlerd's place a program that says how it was called."""
    program = tmp_path / "bin" / "hostlerd"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >&2\necho \'{"state": "warnings", "findings": []}\'\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program.parent / "hostler")])
    return program


@pytest.mark.parametrize(
    ("state", "status"), [("fine", 0), ("warnings", 1), ("broken", 2), ("of a newer one", 2)]
)
def test_the_daemon_is_asked(hostler, daemon, state: str, status: int) -> None:
    daemon.answers["doctor"] = {"state": state, "findings": []}
    ran = hostler("doctor")
    assert ran.status == status
    assert ran.out.startswith(state)
    ran = hostler("doctor", "--json")
    assert (ran.status, ran.json["state"]) == (status, state)


def test_a_recording(hostler, hostlerd: Path, no_daemon: str) -> None:
    ran = hostler("doctor", "--root", "R", "--policy", "P")
    assert ran.status == 1
    assert ran.err == "offline doctor --root R --policy P\n"
    assert ran.out.startswith("warnings: ")


def test_without_a_daemon_this_host_is_looked_at(
    hostler, hostlerd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    monkeypatch.setattr("hostler.wire.SOCKET", str(tmp_path / "nothing.sock"))
    ran = hostler("doctor")
    assert (ran.status, ran.err) == (1, "offline doctor --root /\n")


@pytest.mark.parametrize("named", [["--socket", "/nowhere"], []])
def test_a_daemon_that_was_named_must_answer(
    hostler, hostlerd: Path, no_daemon: str, named: list[str]
) -> None:
    ran = hostler("doctor", *named)
    assert ran.status == 3


def test_a_policy_alone_makes_no_sense(hostler, no_daemon: str) -> None:
    ran = hostler("doctor", "--policy", "P")
    assert ran.status == 2
    assert "--policy goes with --root" in ran.err

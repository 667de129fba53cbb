"""`hostler isolate` in a process of its own, which becomes the command, against the real socket face."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from tests.unit.client.cli.conftest import Hostler
from tests.unit.client.conftest import FakeDaemon

from hostler.errors import BadInput, Refused
from hostlerd.api import Handed, Json
from hostlerd.host.lease import Lease

ANSWER: Json = {"id": "a1b2", "name": "sh", "cpus": "2-3,10-11", "scope": "hostler-claim-a1b2.scope"}
LIMIT = 20.0


class Claims:
    """Hands out leases as the daemon does."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.lease = Lease()
        self.daemon = daemon
        daemon.answers["isolate"] = lambda _: Handed(ANSWER, self.lease.theirs)

    def held(self) -> bool:
        """Whether anybody has the descriptor."""
        try:
            return bool(os.read(self.lease._ours, 1))
        except BlockingIOError:
            return True

    def ended(self) -> bool:
        deadline = time.monotonic() + LIMIT
        while self.held() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.held()


@pytest.fixture
def claims(daemon: FakeDaemon) -> Claims:
    return Claims(daemon)


def isolate(*words: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "hostler", "isolate", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def ran(*words: str) -> tuple[int, str, str]:
    process = isolate(*words)
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def test_the_command_takes_its_place_and_its_status_is_the_answer(claims: Claims) -> None:
    process = isolate(
        "--cpus",
        "4",
        "--same-l3",
        "--smt=isolate",
        "--",
        "sh",
        "-c",
        "read x; echo $HOSTLER_CPUS $$; exit 42",
    )
    process.stdin.write("go\n")  # type: ignore[union-attr]
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (42, f"2-3,10-11 {process.pid}\n", "")
    [(method, params)] = claims.daemon.asked
    assert method == "isolate"
    assert params == {"name": "sh", "cpus": 4, "same_l3": True, "smt": "isolate"}
    assert claims.ended()


def test_the_claim_is_held_by_what_the_command_started(claims: Claims) -> None:
    process = isolate("sh", "-c", "sleep 1000 >&- 2>&- <&- & echo $!")
    child = int(process.stdout.readline())  # type: ignore[union-attr]
    assert process.wait(LIMIT) == 0
    assert claims.held()
    os.kill(child, 9)
    assert claims.ended()
    process.communicate()


def test_json_is_one_line_before_the_command_and_what_follows_the_command_is_its_own(claims: Claims) -> None:
    status, out, _ = ran("--json", "--name", "my game", "echo", "--json", "--cpus", "x")
    first, second = out.splitlines()
    assert status == 0
    assert json.loads(first) == ANSWER
    assert second == "--json --cpus x"
    assert claims.daemon.asked[0][1] == {"name": "my game"}


def test_a_broken_pipe_ends_the_command_as_anywhere(claims: Claims) -> None:
    status, out, _ = ran("sh", "-c", "grep SigIgn /proc/self/status")
    assert status == 0
    assert int(out.split()[1], 16) & (1 << 12 | 1 << 24) == 0
    assert claims.ended()


@pytest.mark.parametrize(("command", "status"), [("/nowhere/at/all", 127), ("/etc", 126)])
def test_what_cannot_be_run_lets_go(claims: Claims, command: str, status: int) -> None:
    found, _, err = ran(command)
    assert found == status
    assert command in err
    assert claims.ended()


def test_a_refusal_is_4_with_the_reason_and_nothing_is_run(daemon: FakeDaemon) -> None:
    daemon.answers["isolate"] = Refused("2 can be had; win11 has 2-5", remedy="end win11")
    status, out, err = ran("--cpus", "8", "echo", "ran")
    assert (status, out, err) == (4, "", "hostler: 2 can be had; win11 has 2-5; end win11\n")


def test_an_answer_without_a_descriptor_is_no_claim(daemon: FakeDaemon) -> None:
    daemon.answers["isolate"] = ANSWER
    status, out, _ = ran("echo", "ran")
    assert (status, out) == (7, "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "needs COMMAND"),
        (["--cpus", "4"], "needs COMMAND"),
        (["--cpus", "many", "true"], "`many` is no number of CPUs"),
        (["--cpus", "0", "true"], "`0` is no number of CPUs"),
        (["--cpu", "4", "true"], "did you mean `--cpus`?"),
    ],
)
def test_usage(hostler: Hostler, daemon: FakeDaemon, words: list[str], sentence: str) -> None:
    found = hostler("isolate", *words)
    assert found.status == 2
    assert sentence in found.err
    assert not daemon.asked


def test_without_a_daemon_nothing_is_run(hostler: Hostler, no_daemon: str) -> None:
    assert hostler("isolate", "true").status == 3


def test_the_daemons_word_on_a_value(hostler: Hostler, daemon: FakeDaemon) -> None:
    daemon.answers["isolate"] = BadInput("the parameter 'smt' is one of pair, isolate, not 'both'")
    assert hostler("isolate", "--smt", "both", "true").status == 1

"""The blocking client against a daemon, none, and what is none."""

import errno
import os
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from hostler import connection, frames, wire
from hostler.connection import Connection, expect_map, expect_rows, is_absent
from hostler.errors import BadInput, Claimed, HostlerError, Internal, Refused, TimedOut, Unreachable


def test_calls_are_answered(daemon) -> None:
    daemon.answers["status"] = {"state": "converged"}
    with Connection() as client:
        assert client.call("status") == {"state": "converged"}
        assert client.call("status", {"a": 1}) == {"state": "converged"}
    assert daemon.asked == [("status", {}), ("status", {"a": 1})]


def test_errors_arrive_as_they_were_raised(daemon) -> None:
    daemon.answers["prepare"] = Claimed("taken", remedy="wait", data={"holder": "win11"})
    with Connection() as client, pytest.raises(Claimed) as caught:
        client.call("prepare")
    assert caught.value.sentence == "taken; wait"
    assert caught.value.data == {"holder": "win11"}


def test_the_path_is_the_argument_else_the_environment_else_the_usual(
    no_daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(path: str | None) -> object:
        with pytest.raises(Unreachable) as caught:
            Connection(path)
        return caught.value.data["path"]

    assert asked("/nowhere/s") == "/nowhere/s"
    assert asked(None) == no_daemon
    monkeypatch.delenv(wire.SOCKET_VARIABLE)
    monkeypatch.setattr(wire, "SOCKET", "/nowhere/usual")
    assert asked(None) == "/nowhere/usual"


def test_no_socket_is_an_absent_daemon(no_daemon: str) -> None:
    with pytest.raises(Unreachable) as caught:
        Connection()
    assert is_absent(caught.value)
    assert caught.value.data == {"path": no_daemon, "errno": errno.ENOENT}
    assert no_daemon in caught.value.sentence


def test_a_socket_that_nobody_listens_at_is_an_absent_daemon(no_daemon: str) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(no_daemon)
    with pytest.raises(Unreachable) as caught:
        Connection()
    assert is_absent(caught.value)
    assert caught.value.data["errno"] == errno.ECONNREFUSED


def test_a_socket_without_permission_is_not_an_absent_daemon() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as other:
        os.chmod(folder, 0o755)
        path = f"{folder}/s"
        other.bind(path)
        other.listen()
        os.chmod(path, 0)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may connect to everything
        try:
            with pytest.raises(Unreachable) as caught:
                Connection(path)
        finally:
            os.seteuid(user)
    assert caught.value.data["errno"] == errno.EACCES
    assert not is_absent(caught.value)


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.ENOTSOCK, errno.ENOTDIR, errno.EPROTOTYPE]
)
def test_other_failures_to_connect_are_not_an_absent_daemon(number: int) -> None:
    error = connection._why(OSError(number, os.strerror(number)), "/s", 1.0)
    assert isinstance(error, Unreachable)
    assert not is_absent(error)
    assert "/s" in error.message
    assert error.remedy


@pytest.mark.parametrize("path", ["x" * 200, "\ud800"])
def test_a_path_that_cannot_be_one(path: str) -> None:
    with pytest.raises(BadInput):
        Connection(path)


def test_a_queue_that_is_full_times_out(no_daemon: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(no_daemon)
        busy.listen(0)
        waiting.connect(no_daemon)
        with pytest.raises(TimedOut):
            Connection(limit=0.05)


def test_no_answer_times_out_and_the_daemon_rolls_back(daemon) -> None:
    daemon.answers["prepare"] = ...
    with Connection() as client, pytest.raises(TimedOut) as caught:
        client.call("prepare", limit=0.05)
    assert "`prepare`" in caught.value.message
    assert daemon.rolled_back_one.wait(10)


def test_the_deadline_is_one_for_all_of_an_answer(impostor) -> None:
    def dribble(peer: socket.socket) -> None:
        try:
            for byte in frames.encode({"id": 1, "result": {"text": "x" * 1000}}):
                peer.sendall(bytes([byte]))
                time.sleep(0.01)
        except OSError:
            pass

    impostor(dribble)
    began = time.monotonic()
    with Connection() as client, pytest.raises(TimedOut):
        client.call("status", limit=0.1)
    assert time.monotonic() - began < 5


def test_a_peer_that_never_reads_times_out(impostor) -> None:
    released = []

    def ignore(peer: socket.socket) -> None:
        while not released:
            time.sleep(0.01)

    impostor(ignore)
    with Connection() as client:
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with pytest.raises(TimedOut):
            client.call("status", {"x": "x" * 200_000}, limit=0.05)
    released.append(True)


def test_a_daemon_that_goes_away_is_unreachable_but_not_absent(impostor) -> None:
    impostor(lambda peer: peer.recv(1) and None)
    with Connection() as client, pytest.raises(Unreachable) as caught:
        client.call("status")
    assert not is_absent(caught.value)


def test_what_speaks_otherwise_is_unreachable(impostor) -> None:
    impostor(lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))
    with Connection() as client, pytest.raises(Unreachable) as caught:
        client.call("status")
    assert "protocol" in caught.value.message


def test_a_refusal_before_the_request_was_read_is_told(impostor) -> None:
    refusal = frames.encode({"id": None, "error": {"name": "org.hostler1.Error.Refused", "message": "full"}})
    impostor(lambda peer: peer.sendall(refusal))
    with Connection() as client, pytest.raises(Refused) as caught:
        client.call("status", {"x": "x" * 200_000})
    assert caught.value.message == "full"


def test_answers_to_others_and_events_are_skipped(impostor) -> None:
    stream = b"".join(
        map(
            frames.encode,
            [
                {"event": {"a": 1}},
                {"id": 7, "result": "other"},
                {"id": 8, "error": {}},
                {"id": 1, "result": "mine"},
            ],
        )
    )
    impostor(lambda peer: peer.sendall(stream))
    with Connection() as client:
        assert client.call("status") == "mine"


def test_a_request_that_cannot_be_sent_is_not(daemon) -> None:
    with Connection() as client, pytest.raises(BadInput):
        client.call("prepare", {"xml": "x" * wire.MAX_FRAME})
    assert daemon.asked == []


def test_a_subscription_lasts_until_the_daemon_goes(impostor) -> None:
    stream = [{"id": 1, "result": {}}, {"event": {"text": "one"}}, {"other": 1}, {"event": {"text": "two"}}]
    impostor(lambda peer: peer.sendall(b"".join(map(frames.encode, stream))))
    seen: list[dict[str, object]] = []

    def watch(client: Connection) -> None:
        seen.extend(client.subscribe())  # keeps what came before the error

    with Connection() as client, pytest.raises(Unreachable):
        watch(client)
    assert [event["text"] for event in seen] == ["one", "two"]


@pytest.mark.parametrize("result", [None, [], "text", 5])
def test_an_answer_that_is_no_map(result: object) -> None:
    with pytest.raises(Internal):
        expect_map(result, "status")


@pytest.mark.parametrize("result", [None, {}, {"devices": 1}, [1], {"devices": [1]}])
def test_an_answer_that_is_no_list_of_maps(result: object) -> None:
    with pytest.raises(Internal):
        expect_rows(result, "devices")


@pytest.mark.parametrize("result", [[{"a": 1}], {"devices": [{"a": 1}]}])
def test_a_list_may_stand_below_its_name(result: object) -> None:
    assert expect_rows(result, "devices") == [{"a": 1}]


def test_an_error_is_a_sentence(no_daemon: str) -> None:
    with pytest.raises(HostlerError) as caught:
        Connection()
    assert ";" in caught.value.sentence


def test_starting_imports_little() -> None:
    """Each of these costs a tenth to a half of the command line's start."""
    program = (
        "import sys; sys.path[:] = sys.argv[1:];"
        "import hostler.cli, hostler.cli.status, hostler.cli.hook; print(*sys.modules)"
    )
    # -S: what .pth files of site-packages import is not ours.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *sys.path], capture_output=True, text=True, check=True
    )
    heavy = "re typing dataclasses json argparse socket enum trio inspect subprocess contextlib difflib"
    assert set(heavy.split()).isdisjoint(done.stdout.split())

"""libvirt's hook: who may say no, and when."""

import io
import socket
import time

import pytest

from hostler import frames
from hostler.cli import hook
from hostler.errors import Claimed, Internal
from hostler.wire import MAX_FRAME

XML = b"<domain type='kvm'><name>win11</name></domain>"
PREPARE = ("hook", "win11", "prepare", "begin", "-")
RELEASE = ("hook", "win11", "release", "end", "-")
OTHERS = [
    ("start", "begin"),
    ("started", "begin"),
    ("stopped", "end"),
    ("reconnect", "begin"),
    ("attach", "begin"),
    ("migrate", "begin"),
    ("restore", "begin"),
    ("prepare", "end"),
    ("novel", "whatever"),
]


def test_prepare_asks_and_stays_silent(hostler, daemon) -> None:
    daemon.answers["prepare"] = {"devices": ["0000:01:00.0"]}
    ran = hostler(*PREPARE, stdin=XML)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert daemon.asked == [("prepare", {"name": "win11", "xml": XML.decode()})]


def test_a_refusal_keeps_the_domain_from_starting_and_says_why(hostler, daemon) -> None:
    daemon.answers["prepare"] = Claimed("0000:01:00.0 belongs to win10", remedy="stop win10 first")
    ran = hostler(*PREPARE, stdin=XML)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == (
        "hostler: domain win11 is not started: 0000:01:00.0 belongs to win10; stop win10 first\n"
    )


def test_domains_start_without_a_daemon(hostler, no_daemon: str) -> None:
    assert hostler(*PREPARE, stdin=XML).status == 0
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(no_daemon)
    assert hostler(*PREPARE, stdin=XML).status == 0


def test_a_daemon_that_does_not_answer_in_time_is_a_failure(hostler, daemon) -> None:
    daemon.answers["prepare"] = ...
    ran = hostler("hook", "--deadline", "0.05", *PREPARE[1:], stdin=XML)
    assert (ran.status, ran.out) == (1, "")
    assert "did not answer `prepare` within" in ran.err
    assert daemon.rolled_back_one.wait(10)


@pytest.mark.parametrize("says", [b"", b"junk that is no frame", frames.encode({"id": 1})[:-2]])
def test_a_daemon_that_goes_away_after_the_request_is_a_failure(hostler, impostor, says: bytes) -> None:
    def behave(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(says)

    impostor(behave)
    ran = hostler(*PREPARE, stdin=XML)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("hostler: domain win11 is not started: ")


def test_a_daemon_that_hangs_up_at_once_is_a_failure(hostler, impostor) -> None:
    impostor(lambda _peer: None)
    assert hostler(*PREPARE, stdin=XML).status == 1


@pytest.mark.parametrize(
    ("xml", "says"), [(b"<name>\xff</name>", "not UTF-8"), (b"x" * (MAX_FRAME + 1), "bytes")]
)
def test_xml_that_cannot_be_sent_is_a_failure_only_where_a_daemon_is(
    hostler, daemon, xml: bytes, says: str
) -> None:
    ran = hostler(*PREPARE, stdin=xml)
    assert ran.status == 1
    assert says in ran.err
    assert daemon.asked == []
    assert hostler("hook", "--socket", "/nowhere", *PREPARE[1:], stdin=xml).status == 0


def test_xml_just_too_large_for_a_frame_is_a_failure(hostler, daemon) -> None:
    ran = hostler(*PREPARE, stdin=b"x" * MAX_FRAME)
    assert ran.status == 1
    assert "bytes" in ran.err


@pytest.mark.parametrize("xml", [b"", b"<domain", b"\0\0"])
def test_broken_xml_is_the_daemon_s_to_judge(hostler, daemon, xml: bytes) -> None:
    daemon.answers["prepare"] = {"devices": []}
    assert hostler(*PREPARE, stdin=xml).status == 0
    assert daemon.asked == [("prepare", {"name": "win11", "xml": xml.decode()})]


def test_release_is_always_reported(hostler, daemon) -> None:
    daemon.answers["release"] = {}
    for xml in (XML, b"\xff", b"x" * MAX_FRAME):
        ran = hostler(*RELEASE, stdin=xml)
        assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [params for _, params in daemon.asked] == [
        {"name": "win11", "xml": XML.decode()},
        {"name": "win11", "xml": "\ufffd"},
        {"name": "win11", "xml": ""},
    ]


@pytest.mark.parametrize("operation", OTHERS)
def test_other_operations_are_reported(hostler, daemon, operation: tuple[str, str]) -> None:
    daemon.answers["hook"] = {}
    ran = hostler("hook", "win11", *operation, "-", stdin=XML)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert daemon.asked == [
        ("hook", {"name": "win11", "operation": operation[0], "sub_operation": operation[1]})
    ]


@pytest.mark.parametrize("operation", [*OTHERS, ("release", "end")])
@pytest.mark.parametrize("trouble", ["error", "silence", "absent"])
def test_only_prepare_may_fail(
    hostler, daemon, monkeypatch: pytest.MonkeyPatch, operation: tuple[str, str], trouble: str
) -> None:
    monkeypatch.setattr(hook, "REPORT_LIMIT", 0.05)
    monkeypatch.setattr(hook, "RELEASE_LIMIT", 0.05)
    answer = ... if trouble == "silence" else Internal("a mistake")
    daemon.answers.update(hook=answer, release=answer)
    where = ("--socket", "/nowhere") if trouble == "absent" else ()
    ran = hostler("hook", *where, "win11", *operation, "-", stdin=XML)
    assert (ran.status, ran.out) == (0, "")
    assert bool(ran.err) == (trouble != "absent")


def test_a_report_holds_libvirt_up_for_two_seconds_at_most() -> None:
    assert hook.REPORT_LIMIT <= 2


def test_standard_input_is_read_to_its_end_even_without_a_daemon(
    hostler, no_daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.BytesIO(b"x" * 1_000_000)
    monkeypatch.setattr("io.BytesIO", lambda _data: stdin)
    for words in (PREPARE, RELEASE, ("hook", "d", "migrate", "begin", "-")):
        stdin.seek(0)
        assert hostler(*words).status == 0
        assert stdin.closed or stdin.tell() == 1_000_000
        stdin = io.BytesIO(b"x" * 1_000_000)


@pytest.mark.parametrize("name", ["-dash", "--json", "--", "a b", "\udcff"])
def test_names_are_whatever_libvirt_allows(hostler, daemon, name: str) -> None:
    daemon.answers["hook"] = {}
    assert hostler("hook", "--", name, "started", "begin", "-", "more", "and more").status == 0
    assert daemon.asked[0][1]["name"] == name.replace("\udcff", "\ufffd")


def test_a_name_like_an_option_is_a_name_without_dashes_before_it_too(hostler, daemon) -> None:
    daemon.answers["hook"] = {}
    assert hostler("hook", "-dash", "started", "begin", "-").status == 0
    assert daemon.asked[0][1]["name"] == "-dash"


def test_the_deadline_is_over_when_reading_took_it_all(
    hostler, daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + 1000
    clock = iter([0.0])
    monkeypatch.setattr(hook, "monotonic", lambda: next(clock, later))
    ran = hostler(*PREPARE, stdin=XML)
    assert ran.status == 1
    assert daemon.asked == []

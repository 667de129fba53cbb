"""The journal survives everything but its own first line."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostler.errors import BadInput, HostFailed
from hostlerd.act import journal as module
from hostlerd.act.journal import Journal
from hostlerd.model.domains import Definition
from hostlerd.model.ledger import (
    Claim,
    DeviceRecord,
    FileRecord,
    GroupRecord,
    HugepagesRecord,
    Ledger,
    PinRecord,
    Trouble,
)
from hostlerd.model.plan import Unbind

GPU = "0000:01:00.0"
DEVICE = DeviceRecord(address=GPU, driver="amdgpu", override=None, identity="1002:744c:030000")
GROUP = GroupRecord(unit="system.slice", allowed="", ours=("0-1", "0-3"))
PINS = PinRecord(uuid="u", vcpus={0: "2", 1: "6"}, iothreads={1: "0-1"}, emulator="0-1", idle="7", own="3")
RULE = FileRecord(path="/run/udev/rules.d/70-hostler.rules")
PAGES = HugepagesRecord(
    uuid="u", name="win11", path="/sys/nr", node=1, page_kib=2048, added=3, before=3, target=9
)
TROUBLE = Trouble(object=GPU, reason="hangs", remedy="reboot", since=1.5, wedged=True)
STEP = Unbind(object=GPU, before="amdgpu", after=None, why="because")


def parse(xml: str) -> Definition:
    return Definition(name=xml, uuid=f"uuid-{xml}")


def opened(path: Path, boot: str = "boot-1") -> Journal:
    return Journal(str(path), boot, parse)


def filled(path: Path) -> Ledger:
    journal = opened(path)
    for record in (DEVICE, GROUP, PINS, RULE):
        journal.record(record)
    journal.claim(Claim(definition=parse("win11"), since=3, prepared=True, xml="win11"))
    journal.trouble(TROUBLE)
    journal.residue("user.slice")
    journal.begin(STEP, writer=42)
    journal.close()
    return journal.ledger


def test_everything_comes_back(tmp_path: Path):
    before = filled(tmp_path / "journal")
    again = opened(tmp_path / "journal")
    assert again.ledger == before
    assert again.ledger.devices == {GPU: DEVICE}
    assert again.ledger.groups == {"system.slice": GROUP}
    assert again.ledger.pins == {"u": PINS}
    assert again.ledger.claims["uuid-win11"].prepared
    assert [s.writer for s in again.ledger.outstanding.values()] == [42]
    assert again.ledger.untouchable(GPU)


def test_a_step_number_is_never_used_twice(tmp_path: Path):
    filled(tmp_path / "journal")
    again = opened(tmp_path / "journal")
    first = next(iter(again.ledger.outstanding))
    assert again.begin(STEP) > first


def test_what_ends_is_gone(tmp_path: Path):
    filled(tmp_path / "journal")
    journal = opened(tmp_path / "journal")
    journal.settle(GPU)
    journal.settle("system.slice")
    journal.settle("u")
    journal.settle(RULE.path)
    journal.unclaim("uuid-win11")
    journal.forgive(GPU)
    journal.close()
    assert opened(tmp_path / "journal").ledger == Ledger(residue=("user.slice",))


def test_another_boots_journal_is_void(tmp_path: Path):
    filled(tmp_path / "journal")
    assert opened(tmp_path / "journal", "boot-2").ledger == Ledger()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.integers(0, 2000))
def test_cut_at_any_byte_it_is_a_prefix(tmp_path: Path, cut: int):
    """A crash in the middle of an append: every whole line before it still counts, the cut one does not."""
    path = tmp_path / "journal"
    path.unlink(missing_ok=True)
    filled(path)
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    whole = data[: data.rfind(b"\n") + 1].count(b"\n")
    journal = opened(path)
    ledger = journal.ledger
    found = (
        len(ledger.devices) + len(ledger.groups) + len(ledger.pins) + len(ledger.files) + len(ledger.claims)
        + len(ledger.troubles) + len(ledger.residue) + len(ledger.outstanding)
    )  # fmt: skip
    assert found == max(0, whole - 1)
    journal.record(DEVICE)
    journal.close()
    assert opened(path).ledger.devices == {GPU: DEVICE}


def test_a_line_of_rubbish_loses_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "journal"
    filled(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "\x00rubbish\n", '{"open": "device"}\n', *lines[3:]]))
    journal = opened(path)
    assert journal.ledger.devices == {GPU: DEVICE}
    assert journal.ledger.claims
    assert "line 4" in caplog.text
    assert (tmp_path / "journal.broken").exists()


def test_no_room_changes_nothing(tmp_path: Path):
    path = tmp_path / "journal"
    journal = opened(path)
    journal.record(GROUP)
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(HostFailed, match="cannot be written"):
            journal.record(DEVICE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.ledger.devices == {}
    assert path.stat().st_size == size
    journal.record(DEVICE)
    journal.close()
    assert opened(path).ledger.devices == {GPU: DEVICE}


def test_it_is_rewritten_before_it_grows_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMPACT_AT", 2000)
    path = tmp_path / "journal"
    journal = opened(path)
    journal.record(DEVICE)
    for _ in range(200):
        journal.end(journal.begin(STEP))
    assert path.stat().st_size < 4000
    assert journal.ledger.devices == {GPU: DEVICE}
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {"journal": 1, "boot": "boot-1"}


def test_the_line_is_there_before_the_step(tmp_path: Path):
    """What the lab's kill scenarios look for."""
    path = tmp_path / "journal"
    journal = opened(path)
    journal.begin(STEP, writer=7)
    last = json.loads(path.read_text().splitlines()[-1])
    assert last == {
        "begin": 1,
        "kind": "unbind",
        "object": GPU,
        "from": "amdgpu",
        "to": None,
        "writer": 7,
    }
    assert os.stat(path).st_nlink == 1


def no_room(_: Journal) -> None:
    raise OSError(28, os.strerror(28))


def test_no_room_to_rewrite_it_changes_nothing_for_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "journal"
    journal = opened(path)
    monkeypatch.setattr(module, "COMPACT_AT", 10)
    monkeypatch.setattr(Journal, "_rewrite", no_room)
    journal.record(DEVICE)
    journal.record(GROUP)
    number = journal.begin(STEP)
    assert journal.ledger.outstanding[number].object == GPU


def test_what_closes_is_true_without_room_and_is_written_later(tmp_path: Path):
    path = tmp_path / "journal"
    filled(path)
    journal = opened(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        for key in (GPU, "system.slice"):
            journal.settle(key)
        journal.unclaim("uuid-win11")
        journal.forgive(GPU)
        with pytest.raises(HostFailed, match="cannot be written"):
            journal.record(DEVICE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.ledger == Ledger(pins={"u": PINS}, files={RULE.path: RULE}, residue=("user.slice",))
    journal.residue("init.scope")
    journal.close()
    assert opened(path).ledger == journal.ledger


def test_it_opens_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "journal"
    before = filled(path)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"close":"dev')  # cut short
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_rewrite", no_room)
        journal = opened(path)
        assert journal.ledger == before
        journal.settle(GPU)
        journal.close()
        with pytest.raises(HostFailed, match="cannot be written"):
            opened(path, "boot-2")
    assert opened(path).ledger == journal.ledger


def test_a_claim_that_is_not_understood_any_more_loses_nothing_else(tmp_path: Path):
    def stricter(xml: str) -> Definition:
        raise BadInput(f"{xml} has no name")

    filled(tmp_path / "journal")
    journal = Journal(str(tmp_path / "journal"), "boot-1", stricter)
    assert not journal.ledger.claims
    assert journal.ledger.devices == {GPU: DEVICE}


def test_huge_pages_are_kept_by_domain_and_pool(tmp_path: Path):
    journal = opened(tmp_path / "journal")
    others = [replace(PAGES, uuid="v"), replace(PAGES, path="/sys/other")]
    for record in (PAGES, *others, replace(PAGES, added=9, before=0, target=0)):
        journal.record(record)
    journal.settle(others[0].key)
    journal.close()
    again = opened(tmp_path / "journal").ledger.hugepages
    assert list(again) == ["/sys/nr for u", "/sys/other for u"]
    assert (again["/sys/nr for u"].added, again["/sys/nr for u"].is_open) == (9, False)
    assert again["/sys/other for u"] == others[1]

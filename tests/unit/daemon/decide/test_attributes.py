"""Kernel files with one value: set while wished, put back when not, and only where the value is still ours."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.daemon.decide.cards import observed

from hostlerd.decide.attributes import Wish, decide_attributes
from hostlerd.model.ledger import AttributeRecord, Ledger, Trouble
from hostlerd.model.observed import Observed

FILE = "/sys/bus/pci/devices/0000:01:00.0/power/control"
ON = Wish(path=FILE, value="on", why="awake")


def state(now: str | None, record: AttributeRecord | None = None) -> Observed:
    ledger = Ledger(attributes={record.path: record} if record else {})
    return replace(observed(None, ledger=None, attributes={FILE: now}), ledger=ledger)


def record(before: str, *ours: str) -> AttributeRecord:
    return AttributeRecord(path=FILE, before=before, ours=ours)


def test_it_is_asked_for_before_anything():
    found = decide_attributes(replace(state(None), attributes={}), [ON])
    assert [(q.kind, q.object) for q in found.questions] == [("attribute", FILE)]


def test_set_with_the_value_that_was_there():
    [step] = decide_attributes(state("auto"), [ON]).steps
    assert (step.before, step.after, step.record) == ("auto", "on", record("auto", "on"))


def test_nothing_is_done_where_it_is_so_already_or_there_is_no_such_file():
    for now in ("on", None):
        found = decide_attributes(state(now), [ON])
        assert (found.steps, found.returns, found.settled) == ([], [], [])


def test_put_back_when_nobody_wishes_it():
    [step] = decide_attributes(state("on", record("auto", "on")), []).returns
    assert (step.before, step.after) == ("on", "auto")


def test_somebody_elses_value_stays():
    assert decide_attributes(state("other", record("auto", "on")), []).settled == [FILE]


def test_what_is_gone_or_back_is_settled():
    for now in ("auto", None):
        assert decide_attributes(state(now, record("auto", "on")), []).settled == [FILE]


def test_kept_as_it_is_while_somebody_says_so():
    found = decide_attributes(state("on", record("auto", "on")), [Wish(path=FILE, value=None, why="not yet")])
    assert (found.steps, found.returns, found.settled) == ([], [], [])


def test_a_degraded_file_is_left_alone():
    trouble = Trouble(object=FILE, reason="", remedy="", since=0.0)
    now = replace(state("auto"), ledger=Ledger(troubles={FILE: trouble}))
    assert not decide_attributes(now, [ON]).steps


@given(st.sampled_from(["auto", "on", "off"]), st.lists(st.sampled_from(["on", "off", None]), max_size=6))
def test_whatever_is_wished_in_turn_it_ends_as_it_was(before: str, wishes: list[str | None]):
    """Also with a kill between record and write at any place: both the old and the new value are ours."""
    now, kept = before, None
    for value in (*wishes, None, None):
        wanted = [] if value is None else [Wish(path=FILE, value=value, why="")]
        found = decide_attributes(state(now, kept), wanted)
        for step in (*found.steps, *found.returns):
            kept = step.record or kept
            now = step.after or ""
        if found.settled:
            kept = None
    assert (now, kept) == (before, None)

"""Control groups that are no units of systemd."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import groups, observed

from hostlerd.decide.isolation import strangers
from hostlerd.model.isolation import Group

ALL = frozenset(range(8))


@pytest.mark.parametrize(
    ("name", "to_do"),
    [
        ("docker", "native.cgroupdriver=systemd"),
        ("lxc.payload.web", "lxc.cgroup2.cpuset.cpus = 0,2-4,6-7 "),
        ("kubepods", "cgroupDriver: systemd"),
        ("machine", "systemd-machined"),
        ("mine", "keep it to CPUs 0,2-4,6-7 itself"),
    ],
)
def test_named_with_what_to_do(name: str, to_do: str):
    group = Group(unit=name, allowed=frozenset(), effective=ALL)
    state = observed(groups=replace(groups(), strangers=(group,)))
    (note,) = strangers(state, frozenset({1, 5}))
    assert f"control group {name} is no unit of systemd and may use CPUs 1,5" in note
    assert to_do in note


def test_one_that_keeps_off_is_no_ones_business():
    group = Group(unit="docker", allowed=frozenset(), effective=frozenset({0, 2}))
    state = observed(groups=replace(groups(), strangers=(group,)))
    assert not strangers(state, frozenset({1, 5}))
    assert not strangers(state, frozenset())

"""How often an open device is looked at."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hostlerd.reconcile.looks import AGAIN, Looks


def test_looks_are_counted_from_when_it_was_found_open():
    looks = Looks()
    assert looks.next_due(100.0) == math.inf
    looks.found(["card"], 100.0)
    assert looks.next_due(100.0) == 1.0
    looks.found(["card"], 100.5)
    assert looks.next_due(100.5) == 0.5
    looks.found(["card"], 101.0)
    assert looks.next_due(101.0) == 3.0
    assert looks.next_due(144.0) == math.inf
    looks.found(["card", "another"], 200.0)
    assert looks.next_due(200.0) == 1.0
    looks.found([], 200.5)
    assert looks.next_due(200.5) == math.inf


@given(st.lists(st.floats(min_value=0.0, max_value=5.0), max_size=40))
def test_a_device_that_stays_open_is_looked_at_a_bounded_number_of_times(kicks: list[float]):
    looks, now, timed = Looks(), 0.0, 0
    looks.found(["card"], now)
    pending = [*kicks, *[math.inf] * (len(AGAIN) + 1)]
    for kick in pending:
        wait = min(kick, looks.next_due(now))
        if wait == math.inf:
            break
        timed += wait < kick
        now += wait
        looks.found(["card"], now)
    assert timed <= len(AGAIN)
    assert looks.next_due(max(now, AGAIN[-1])) == math.inf

"""What may be asked for, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.errors import BadInput
from hostlerd.api.programs import asked_name, asked_program
from hostlerd.model.programs import Program

WHO: dict[str, Any] = {"name": "game", "uid": 1000, "pid": 7, "start": 99, "ident": "a1"}


def test_all_that_can_be_asked() -> None:
    params = {
        "cpus": 4,
        "same_l3": True,
        "same_node": True,
        "smt": "isolate",
        "class": "performance",
        "profile": "latency",
        "name": "game",
    }
    assert asked_program(params, **WHO) == Program(
        id="a1",
        name="game",
        uid=1000,
        pid=7,
        start=99,
        count=4,
        same_l3=True,
        same_node=True,
        smt="isolate",
        core_class="performance",
        profile="latency",
    )
    assert asked_program({}, **WHO).count == 1


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"cpus": 0}, "'cpus' is a number of CPUs"),
        ({"cpus": -1}, "'cpus' is a number"),
        ({"cpus": True}, "'cpus' is a number"),
        ({"cpus": "4"}, "'cpus' is a number"),
        ({"cpus": 2**40}, "'cpus' is a number"),
        ({"same_l3": "yes"}, "'same_l3' is true or false"),
        ({"smt": "both"}, "one of pair, isolate"),
        ({"class": []}, "one of performance, efficiency, none"),
        ({"profile": "loud"}, "one of balanced, latency, realtime, none"),
        ({"core_class": "performance"}, "no parameter 'core_class'"),
    ],
)
def test_what_makes_no_sense(params: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        asked_program(params, **WHO)


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", 7, "\x1b[2J"])
def test_a_name_is_a_short_text_that_can_be_shown(name: object) -> None:
    with pytest.raises(BadInput):
        asked_name({"name": name})


def test_a_name_may_be_left_out() -> None:
    assert asked_name({}) == asked_name({"name": " "}) == ""

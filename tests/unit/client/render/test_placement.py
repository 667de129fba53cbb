"""What a domain's placement reached, and what a start would move."""

from typing import Any

import pytest

from hostler.render import domains, placement
from hostler.render.text import Style, columns_of

TERMS = [
    {
        "term": "undedicated",
        "title": "own CPUs",
        "value": 0,
        "best": 0,
        "reached": "each of its 8 vCPUs",
        "why": "",
    },
    {
        "term": "l3_span",
        "title": "L3 domains",
        "value": 2,
        "best": 1,
        "reached": "2 L3 domains instead of 1 (0 and 4)",
        "why": "L3 0 has 3 free cores, 4 are needed; stopping `work` would free them",
    },
]
GIVEN = {
    "mode": "dedicated",
    "why": "",
    "vcpus": [[1], [9], [2], [10], [3], [11], [5], [13]],
    "emulator": [6],
    "idle": [14],
    "terms": TERMS,
}
WHAT_IF: dict[str, Any] = {
    "domain": "win11",
    "uuid": "u",
    "placement": GIVEN,
    "moves": [
        {
            "domain": "work",
            "uuid": "w",
            "vcpu": vcpu,
            "from": "4",
            "to": "7",
            "why": "for `win11`, L3 domains: L3 4",
        }
        for vcpu in (0, 1)
    ]
    + [{"domain": "small", "uuid": "s", "vcpu": None, "from": "0-7", "to": "0-3", "why": "it floats"}],
    "refusals": [{"object": "0000:01:00.0", "reason": "X has it open", "remedy": "end X"}],
}


def test_a_line_for_each_term_and_what_is_missed_is_marked() -> None:
    assert placement.block(GIVEN, "win11") == [
        "placement of win11: CPUs of its own: vCPUs on 1-3,5,9-11,13, emulator on 6, 14 kept empty",
        "    own CPUs    each of its 8 vCPUs",
        f"  ! L3 domains  {TERMS[1]['reached']}: {TERMS[1]['why']}",
    ]
    painted = placement.terms(GIVEN, Style(color=True))
    assert [line.startswith("\033[33m") for line in painted] == [False, True]


@pytest.mark.parametrize(
    ("mode", "why", "says"),
    [
        (
            "floating",
            "8 CPUs needed, 2 free",
            "floats on the host's CPUs, though it is to have its own; 8 CPUs needed",
        ),
        ("shared", "it has no PCI device", "shares the host's CPUs; it has no PCI device"),
        ("pinned", "", "pinned by its own definition"),
        ("off", 'cpus = "off" is set for it', 'left alone; cpus = "off"'),
        ("new in some later version", "", "new in some later version"),
    ],
)
def test_who_has_no_cpus_of_its_own_is_told_why(mode: str, why: str, says: str) -> None:
    assert placement.head({"mode": mode, "why": why, "vcpus": None}).startswith(says)


def test_who_floats_is_told_why_once() -> None:
    why = "8 CPUs needed, 4 free; stopping `work` would free them"
    term = {"term": "undedicated", "title": "own CPUs", "value": 8, "best": 0, "reached": "none", "why": why}
    lines = placement.block({"mode": "floating", "why": why, "vcpus": None, "terms": [term]}, "big")
    assert lines == [
        "placement of big: floats on the host's CPUs, though it is to have its own",
        f"  ! own CPUs  none: {why}",
    ]


def test_what_a_start_would_move_and_what_is_refused() -> None:
    text = placement.what_if(WHAT_IF)
    assert text.startswith(
        "if win11 were started now; nothing is changed\n\nplacement of win11: CPUs of its own"
    )
    assert "  work: vCPU 0 from 4 to 7, vCPU 1 from 4 to 7 (for `win11`, L3 domains: L3 4)\n" in text
    assert "  small: what floats of it from 0-7 to 0-3 (it floats)\n" in text
    assert text.endswith("1 refusal:\n  0000:01:00.0: X has it open\n    to do: end X")
    still = placement.what_if(WHAT_IF | {"moves": [], "refusals": []})
    assert still.endswith("no vCPU that runs would move")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_keeps_to_the_terminal(width: int) -> None:
    assert max(map(columns_of, placement.what_if(WHAT_IF, Style(width=width)).splitlines())) <= width


def test_one_domain_is_described_with_its_placement() -> None:
    text = domains.render_one({"name": "win11", "state": "running", "placement": GIVEN})
    assert "  placement   CPUs of its own: vCPUs on 1-3,5,9-11,13, emulator on 6, 14 kept empty\n" in text
    assert "    ! L3 domains  2 L3 domains instead of 1" in text


def test_answers_with_little_in_them() -> None:
    assert placement.block({}, None) == ["placement of -: -"]
    assert "no vCPU" in placement.what_if(None)

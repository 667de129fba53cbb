"""The table of slices."""

import re
from typing import Any

from hostler.render import devices, domains

CARD, VF1, VF2 = "0000:41:00.0", "0000:41:00.4", "0000:41:00.5"


def row(address: str, **more: Any) -> dict[str, Any]:
    return {"address": address, "class": "0x030000", "owner": {"kind": "host", "who": ""}} | more


def lines(rows: list[dict[str, Any]], *, everything: bool = False) -> list[list[str]]:
    shown = devices.render(rows, everything=everything).splitlines()
    start = next((n for n, line in enumerate(shown) if line.startswith("SLICES OF")), len(shown))
    return [
        [cell.strip() for cell in re.split(r"  +", line.strip())]
        for line in shown[start + 1 :]
        if "  " in line
    ]


def test_types_with_what_is_left_and_who_has_them() -> None:
    slices = {
        "types": [
            {"type": "mbochs-small", "name": "small", "available": 61},
            {"type": "mbochs-large", "name": "mbochs-large", "available": 3},
        ],
        "instances": [
            {"uuid": "1", "type": "mbochs-small", "domain": "a"},
            {"uuid": "2", "type": "mbochs-small", "domain": "a"},
            {"uuid": "3", "type": "mbochs-small", "domain": None},
            {"uuid": "4", "type": "gone", "domain": "b"},
        ],
    }
    assert lines([row("mbochs", slices=slices)]) == [
        ["mbochs", "mbochs-small (small)", "61", "2 x a, no domain"],
        ["mbochs-large", "3", "-"],
        ["gone", "0", "b"],
    ]


def test_virtual_functions() -> None:
    rows = [
        row(CARD, sriov={"total": 32, "count": 2, "vfs": [VF1, VF2]}),
        row(VF1, physfn=CARD, owner={"kind": "domain", "who": "win11"}),
        row(VF2, physfn=CARD),
    ]
    assert lines(rows) == [[CARD, "virtual function, 2 of 32 made", "1", f"win11 ({VF1})"]]
    assert [one["address"] for one in devices.of_interest(rows)] == [CARD, VF1]


def test_what_has_none_takes_no_room() -> None:
    rows = [row(CARD, sriov={"total": 32, "count": 0, "vfs": []}, slices=None)]
    assert lines(rows) == []
    assert lines(rows, everything=True) == [[CARD, "virtual function, 0 of 32 made", "0", "-"]]


def test_a_domains_slice() -> None:
    domain = {"name": "a", "gpu": "slice", "slices": [{"type": "mbochs-small", "parent": "mbochs"}]}
    assert "slice: mbochs-small of mbochs" in domains.render([domain])
    assert "slice: mbochs-small of mbochs" in domains.render_one(domain)

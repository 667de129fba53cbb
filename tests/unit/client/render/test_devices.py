"""The table of PCI functions."""

from typing import Any

import pytest

from hostler.render import devices
from hostler.render.text import Style


def device(address: str, class_: Any = "0x030000", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": address,
        "name": f"name of {address}",
        "vendor": "10de",
        "device": "2684",
        "class": class_,
        "driver": None,
        "iommu_group": None,
        "group": [],
        "companions": [],
        "boot_vga": False,
        "owner": {"kind": "host", "who": ""},
        "holders": [],
    }
    return found | more


def holder(pid: int, **more: Any) -> dict[str, Any]:
    return {"pid": pid, "command": "Xorg", "user": "ann", "unit": "gdm.service", "container": None} | more


def addresses(rows: list[dict[str, Any]]) -> list[str]:
    return [row["address"][-7:] for row in devices.of_interest(rows)]


@pytest.mark.parametrize(
    ("code", "is_display"),
    [
        (0x030000, True),
        (0x038000, True),
        (0x040300, False),
        ("0x030200", True),
        ("030000", True),
        ("0300", True),
        ("0x0403", False),
        ("0x060300", False),
        (None, False),
        ("", False),
        ("3", False),
    ],
)
def test_display_classes(code: object, is_display: bool) -> None:
    assert devices.is_display({"class": code}) == is_display


def test_of_interest_is_what_belongs_to_a_display_or_is_not_the_host_s() -> None:
    rows = [
        device("0000:00:1f.0", "0x060100"),
        device("0000:01:00.0", group=["0000:01:00.0", "0000:02:00.0"], companions=["0000:01:00.1"]),
        device("0000:01:00.1", "0x040300"),
        device("0000:02:00.0", "0x020000"),
        device("0000:03:00.0", "0x010802", owner={"kind": "idle", "who": ""}),
        device("0000:04:00.0", "0x010802"),
    ]
    assert addresses(rows) == ["01:00.0", "01:00.1", "02:00.0", "03:00.0"]
    text = devices.render(rows)
    assert "04:00.0" not in text
    assert "2 more functions: `hostler devices --all`" in text
    assert "04:00.0" in devices.render(rows, everything=True)


def test_a_row_says_who_has_it_and_who_holds_it() -> None:
    rows = [
        device("0000:01:00.0", driver="vfio-pci", iommu_group=13, owner={"kind": "domain", "who": "win11"}),
        device("0000:02:00.0", boot_vga=True, holders=[holder(7), holder(7), holder(9, container="lxc1")]),
        device("0000:03:00.0", owner={"kind": "idle", "who": "gaming"}),
        device("0000:04:00.0", owner={"kind": "degraded", "who": "putting it back failed"}, name=None),
    ]
    lines = devices.render(rows).splitlines()
    assert lines[0].split() == ["ADDRESS", "NAME", "DRIVER", "GROUP", "OWNER", "HELD", "BY"]
    assert "vfio-pci  13     domain win11" in lines[1]
    assert "(boot display)" in lines[2]
    assert lines[2].endswith("host                             Xorg (7, gdm.service), Xorg (9, lxc1)")
    assert "idle on VFIO (gaming)" in lines[3]
    assert "10de:2684" in lines[4]
    assert "degraded putting it back failed" in lines[4]
    assert "\033[31mdegraded" in devices.render(rows, Style(color=True))


def test_many_holders_are_counted() -> None:
    text = devices.render([device("0000:01:00.0", holders=[holder(pid) for pid in range(9)])])
    assert text.endswith("and 6 more")


def test_hosts_without_anything() -> None:
    assert devices.render([]) == "no PCI functions here"
    text = devices.render([device("0000:00:1f.0", "0x060100")])
    assert text.splitlines()[0] == "no display card and nothing that a domain has"


def test_names_from_hardware_steer_no_terminal() -> None:
    assert "\033" not in devices.render([device("0000:01:00.0", name="\033]0;x\007")])

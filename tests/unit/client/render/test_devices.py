"""The table of PCI functions."""

import re
from typing import Any

import pytest

from hostler.render import devices
from hostler.render.text import Style, columns_of


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


HOST = {"kind": "host", "who": None}
WIN11 = {"kind": "domain", "who": "win11"}
GPU, AUDIO, USB = "0000:01:00.0", "0000:01:00.1", "0000:01:00.2"


def card(owner: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """A display card with its audio and USB."""
    name = "NVIDIA Corporation GA102 [GeForce RTX 3080]"
    gpu: dict[str, Any] = {"name": name, "iommu_group": 14, "companions": [AUDIO, USB], "group": [AUDIO, USB]}
    return [
        device(GPU, owner=owner, **(gpu | more)),
        device(AUDIO, "0x040300", owner=owner, companions=[GPU, USB]),
        device(USB, "0x0c0330", owner=owner, companions=[GPU, AUDIO]),
    ]


def cells(rows: list[dict[str, Any]], line: int = 1) -> list[str]:
    return [cell.strip() for cell in re.split(r"  +", devices.render(rows).splitlines()[line])]


def test_of_interest_are_cards_and_what_is_not_the_hosts() -> None:
    rows = [
        device("0000:00:1f.0", "0x060100"),
        *card(HOST),
        device("0000:02:00.0", "0x020000"),
        device("0000:03:00.0", "0x010802", owner={"kind": "idle", "who": ""}),
        device("0000:04:00.0", "0x010802"),
    ]
    assert addresses(rows) == ["01:00.0", "03:00.0"]
    text = devices.render(rows)
    assert "04:00.0" not in text
    assert "3 more functions: `hostler devices --all`" in text
    assert "04:00.0" in devices.render(rows, everything=True)


def test_the_card_leads_whatever_its_address() -> None:
    rows = card(WIN11)
    rows[0]["address"], rows[2]["address"] = USB, GPU
    for row in rows:
        row["companions"] = [a for a in (GPU, AUDIO, USB) if a != row["address"]]
    assert addresses(rows) == ["01:00.2"]


def test_a_card_of_a_domain() -> None:
    assert cells(card(WIN11, driver="vfio-pci")) == [
        "GeForce RTX 3080 + audio, USB",
        GPU,
        "domain win11",
        "-",
        "stop win11 to have it back",
    ]


def test_a_card_of_the_host_that_is_free_or_open() -> None:
    rows = card(HOST, driver="nvidia")
    rows[1]["owner"] = {"kind": "host", "who": "snd_hda_intel"}
    assert cells(rows) == [
        "GeForce RTX 3080 + audio, USB", GPU, "the host (nvidia)", "-", "ready for a domain",
    ]  # fmt: skip
    assert cells(card(HOST, driver="nvidia"))[2:] == ["the host (nvidia)", "-", "ready for a domain"]
    busy = ["the console is on its screen (fb0, vtcon1)"]
    rows = card(HOST, driver="nvidia", holders=[holder(7), holder(8)], busy=busy, boot_vga=True)
    rows[1]["holders"] = [holder(9, command="pipewire", unit="pipewire.service", user="ann")]
    assert cells(rows) == [
        "GeForce RTX 3080 (shows the boot) + audio, USB",
        GPU,
        "the host (nvidia)",
        "Xorg x 2 (gdm), pipewire",
        f"close that before a domain takes it; {busy[0]}",
    ]


def test_whoever_has_a_slice_of_a_card_is_to_stop_first() -> None:
    qemu = holder(9, command="qemu-system-x86", unit=r"machine-qemu\x2d1\x2dwin10.scope")
    assert cells(card(HOST, driver="i915", holders=[qemu]))[4] == "stop win10 before another domain takes it"
    rows = [*card(HOST, driver="nvidia"), device("0000:01:00.4", owner=WIN11, physfn=GPU)]
    assert cells(rows)[4] == "stop win11 before another domain takes it"
    both = [
        *card(HOST, driver="nvidia", holders=[holder(7)]),
        device("0000:01:00.4", owner=WIN11, physfn=GPU),
    ]
    assert cells(both)[4] == "close that before a domain takes it"


@pytest.mark.parametrize(
    ("owner", "words", "to_do"),
    [
        (
            {"kind": "idle", "who": "gaming"},
            "nobody: kept free for domains (gaming)",
            "start a domain with it",
        ),
        ({"kind": "idle", "who": None}, "nobody: kept free for domains", "start a domain with it"),
        (
            {"kind": "degraded", "who": "it hangs"},
            "nobody may touch it: it hangs",
            f"see `hostler status`, then `hostler retry {GPU}`",
        ),
        (HOST, "the host, without a driver", "ready for a domain"),
    ],
)
def test_who_has_it_and_what_can_be_done(owner: dict[str, Any], words: str, to_do: str) -> None:
    found = cells(card(owner))
    assert (found[2], found[4]) == (words, to_do)


def test_what_keeps_it_from_being_given_away() -> None:
    rows = card(HOST, iommu_group=None, group=[])
    assert cells(rows)[4] == "the host has no IOMMU for it: it cannot be given away"
    rows = card(HOST, group=["0000:00:01.0", AUDIO, USB, "0000:05:00.0", "0000:06:00.0"])
    rows.append(device("0000:00:01.0", "0x060400"))
    rows.append(device("0000:05:00.0", "0x020000", name="Intel Corporation I210"))
    assert cells(rows)[4] == (
        "to give it away, Intel I210 (0000:05:00.0), 0000:06:00.0 must go, too (same IOMMU group)"
    )


def test_a_companion_that_somebody_else_has_gets_its_own_row() -> None:
    rows = card(HOST)
    rows[2]["owner"] = WIN11
    assert addresses(rows) == ["01:00.0", "01:00.2"]
    assert cells(rows)[0] == "GeForce RTX 3080 + audio"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (
            "Advanced Micro Devices, Inc. [AMD/ATI] Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]",
            "Radeon RX 6800/6800 XT / 6900 XT",
        ),
        ("Advanced Micro Devices, Inc. [AMD/ATI] Raphael", "AMD Raphael"),
        ("10de:2204", "10de:2204"),
        ("", "10de:2684"),
        (None, "10de:2684"),
    ],
)
def test_cards_are_called_what_their_boxes_say(name: str | None, short: str) -> None:
    assert devices.short_name(device(GPU, name=name)) == short


def test_all_functions_with_drivers_groups_and_processes() -> None:
    rows = [
        device("0000:01:00.0", driver="vfio-pci", iommu_group=13, owner=WIN11),
        device("0000:02:00.0", boot_vga=True, holders=[holder(7), holder(7), holder(9, container="lxc1")]),
        device("0000:03:00.0", owner={"kind": "idle", "who": "gaming"}),
        device("0000:04:00.0", owner={"kind": "degraded", "who": "putting it back failed"}, name=None),
    ]
    lines = devices.render(rows, everything=True).splitlines()
    assert lines[0].split() == ["ADDRESS", "NAME", "DRIVER", "GROUP", "OWNER", "HELD", "BY"]
    assert "vfio-pci  13     domain win11" in lines[1]
    assert "(boot display)" in lines[2]
    assert lines[2].endswith("host                             Xorg (7, gdm.service), Xorg (9, lxc1)")
    assert "idle on VFIO (gaming)" in lines[3]
    assert "10de:2684" in lines[4]
    assert "degraded putting it back failed" in lines[4]
    assert "\033[31mdegraded" in devices.render(rows, Style(color=True), everything=True)


def test_many_holders_are_counted() -> None:
    rows = [device("0000:01:00.0", holders=[holder(pid) for pid in range(9)])]
    assert devices.render(rows, everything=True).endswith("and 6 more")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_keeps_to_the_terminal(width: int) -> None:
    text = devices.render(card(HOST, holders=[holder(7)]), Style(width=width))
    assert all(columns_of(line) <= width for line in text.splitlines())


def test_hosts_without_anything() -> None:
    assert devices.render([]) == "no PCI functions here"
    text = devices.render([device("0000:00:1f.0", "0x060100")])
    assert text.splitlines()[0] == "no display card and nothing that a domain has"


def test_names_from_hardware_steer_no_terminal() -> None:
    assert "\033" not in devices.render([device("0000:01:00.0", name="\033]0;x\007")])

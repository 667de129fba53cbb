"""What doctor found, as a person reads it."""

from __future__ import annotations

import pytest

from hostler.render.doctor import render
from hostler.render.text import Style, columns_of

BOOT = {
    "now": "ro quiet",
    "line": "ro quiet intel_iommu=on",
    "realtime": "ro quiet intel_iommu=on nohz_full=2-7",
}
STEPS = ["GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub: add intel_iommu=on", "update-grub", "reboot"]
FOUND: dict[str, object] = {
    "state": "broken",
    "findings": [
        {
            "id": "kvm",
            "severity": "ok",
            "what": "KVM is there",
            "why": "of no interest",
            "do": "",
            "evidence": "flags",
        },
        {
            "id": "iommu",
            "severity": "broken",
            "what": "the IOMMU is off",
            "why": "no device can be given away",
            "do": "boot with intel_iommu=on",
            "evidence": "/sys/kernel/iommu_groups: 0 groups",
            "known": True,
        },
        {
            "id": "x",
            "severity": "note",
            "what": "iommu=pt is set",
            "why": "faster",
            "do": "",
            "evidence": "",
            "known": True,
        },
        {
            "id": "y",
            "severity": "warning",
            "what": "isolated",
            "why": "",
            "do": "take it off",
            "evidence": "z",
            "known": True,
        },
        {
            "id": "libvirt",
            "severity": "note",
            "what": "which libvirt this is",
            "why": "no file",
            "do": "",
            "known": False,
        },
    ],
    "command_line": {
        **BOOT,
        "costs": "CPUs are taken for good",
        "add": ["intel_iommu=on"],
        "remove": [],
        "loader": "GRUB",
        "how": STEPS,
    },
}


def test_the_whole_story() -> None:
    assert render(FOUND).splitlines() == [
        "broken: domains cannot have devices until this is mended",
        "",
        "BROKEN   the IOMMU is off",
        "         why:   no device can be given away",
        "         to do: boot with intel_iommu=on",
        "",
        "warning  isolated",
        "         to do: take it off",
        "",
        "note     iommu=pt is set",
        "         why:   faster",
        "",
        "ok       KVM is there",
        "",
        "1 thing could not be told: which libvirt this is (--all says for want of what)",
        "",
        "kernel command line",
        "  now:",
        "    ro quiet",
        "  better:",
        "    ro quiet intel_iommu=on",
        "  for the profile realtime:",
        "    ro quiet intel_iommu=on nohz_full=2-7",
        "    its price: CPUs are taken for good",
        "  to change it (GRUB):",
        "    1. GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub: add intel_iommu=on",
        "    2. update-grub",
        "    3. reboot",
    ]


def test_with_evidence() -> None:
    lines = render(FOUND, everything=True).splitlines()
    assert "         from:  /sys/kernel/iommu_groups: 0 groups" in lines
    assert "         why:   of no interest" in lines
    assert "  which libvirt this is: no file" in lines


@pytest.mark.parametrize("width", [30, 60, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = render(FOUND, Style(width=width), everything=True)
    copied = {*map(str, BOOT.values()), *(f"{number}. {step}" for number, step in enumerate(STEPS, 1))}
    for line in text.splitlines():
        # A word of 23 columns and a label in front need some.
        assert columns_of(line) <= max(width, 36) or line.strip() in copied, line


def test_colours_only_where_they_are_wanted() -> None:
    assert "\033[" not in render(FOUND)
    painted = render(FOUND, Style(color=True, width=80))
    assert "\033[31mBROKEN\033[0m   the IOMMU is off" in painted
    assert "\033[33mwarning\033[0m  isolated" in painted


def test_fine() -> None:
    assert render({"state": "fine", "findings": []}) == (
        "fine: nothing is in the way of giving devices and CPUs to domains"
    )
    unknown = {
        "id": "a",
        "severity": "note",
        "what": "whether",
        "why": "",
        "do": "",
        "evidence": "",
        "known": False,
    }
    assert render({"state": "fine", "findings": [unknown]}).startswith(
        "fine: nothing of what could be looked at is in the way"
    )


def test_a_line_that_stays_and_a_loader_that_nobody_knows() -> None:
    same = {
        "now": "ro",
        "line": "ro",
        "realtime": "",
        "costs": "",
        "add": [],
        "remove": [],
        "loader": "",
        "how": [],
    }
    assert "kernel command line" not in render({"state": "fine", "findings": [], "command_line": same})
    offer = {**same, "realtime": "ro nohz_full=1"}
    assert "none that hostler knows" in render({"state": "fine", "findings": [], "command_line": offer})


def test_a_line_that_is_not_known() -> None:
    boot = {
        "now": None,
        "line": "",
        "realtime": "nohz_full=1",
        "costs": "c",
        "add": [],
        "remove": [],
        "how": [],
    }
    lines = render({"state": "fine", "findings": [], "command_line": boot}).splitlines()
    assert lines[4] == "    not known; what follows is to be added"
    assert "    nohz_full=1" in lines


def test_what_a_newer_daemon_might_say() -> None:
    assert render({"state": "odd", "findings": [{"severity": "odd"}, 5], "command_line": []}) == "odd"
    assert "\033" not in render({"state": "fine", "findings": [{"severity": "note", "what": "\033[31m"}]})

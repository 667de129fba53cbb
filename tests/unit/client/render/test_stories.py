"""Domains, plan, status and events as text."""

import time

import pytest

from hostler.render import domains, plan, status, watch
from hostler.render.text import Style, columns_of
from hostler.render.times import moment

WIN11 = {
    "state": "running",
    "name": "win11",
    "uuid": "c7a5fdbd-cdaf-9455-926a-d65c16db1809",
    "type": "kvm",
    "vcpus": {"current": 8, "maximum": 16},
    "topology": {"sockets": 1, "dies": 2, "cores": 4, "threads": 2},
    "vcpu_pins": {"10": [3], "2": [2, 10]},
    "emulator_pins": [0, 1],
    "iothreads": 1,
    "iothread_pins": {"1": [0, 8]},
    "hostdevs": [
        {"kind": "pci", "address": "0000:01:00.0", "managed": True},
        {"kind": "mdev", "uuid": "abc"},
        {"kind": "usb", "source": "046d:c52b"},
    ],
    "numa_cells": [{"cpus": [0, 1], "memory_kib": 8388608}],
    "hugepages": True,
    "gpu": "passthrough",
}
SMALL = {
    "state": "shut off",
    "name": "small",
    "vcpus": {"current": 1, "maximum": 1},
    "hostdevs": [],
    "gpu": "none",
}
STEPS = [
    {"kind": "override", "object": "0000:01:00.0", "from": None, "to": "vfio-pci", "why": "win11 has it"},
    {"kind": "unbind", "object": "0000:01:00.0", "from": "nouveau", "to": None, "why": "win11 has it"},
    {"kind": "allowed-cpus", "object": "system.slice", "from": "0-7", "to": "0-1", "why": "words " * 30},
    {"kind": "udev-rule", "object": "/run/udev/rules.d/" + "x" * 60, "from": None, "to": "x", "why": "idle"},
    {"kind": "probe", "object": "o", "from": None, "to": None},
]
REFUSAL = {"object": "0000:02:00.0", "reason": "win10 has it", "remedy": "stop win10"}


def test_domains_in_a_table() -> None:
    assert domains.render([WIN11, SMALL]).splitlines() == [
        "NAME   STATE     VCPUS    PINS    GPU          HOSTDEVS",
        "win11  running   8 of 16  2-3,10  passthrough  pci 0000:01:00.0, mdev abc, usb 046d:c52b",
        "small  shut off  1        -       none         -",
    ]


def test_domains_of_files() -> None:
    assert domains.render([{"file": "a.xml", "name": "a"}]).startswith("NAME  FILE ")


def test_a_fallback_in_force_and_an_edit_are_said() -> None:
    edit = {
        "by": "fallback",
        "before": "passthrough 0000:01:00.0",
        "after": "emulated",
        "waits_for": ["0000:01:00.0"],
    }
    fell = WIN11 | {"gpu": "emulated", "edit": edit}
    assert " emulated (fallback) " in domains.render([fell])
    wanted = "fallback in force (passthrough 0000:01:00.0 -> emulated) until 0000:01:00.0 is there and free"
    assert wanted in domains.render_one(fell)
    own = domains.render_one(WIN11 | {"edit": edit | {"by": "user"}})
    assert (
        "changed by hostler (passthrough 0000:01:00.0 -> emulated); `hostler gpu win11 undo` takes it back"
        in own
    )


def test_no_domains() -> None:
    assert domains.render([]) == "no domains"


def test_one_domain() -> None:
    assert domains.render_one(WIN11).splitlines() == [
        "win11: running",
        "  uuid        c7a5fdbd-cdaf-9455-926a-d65c16db1809",
        "  type        kvm",
        "  vCPUs       8 of 16 (2 dies, 4 cores, 2 threads each)",
        "  pins        vCPU 2 -> CPU 2,10",
        "              vCPU 10 -> CPU 3",
        "  emulator    0-1",
        "  iothreads   1",
        "              iothread 1 -> CPU 0,8",
        "  NUMA cells  vCPUs 0-1, 8 GiB",
        "  hugepages   yes",
        "  GPU         passthrough",
        "  hostdevs    pci 0000:01:00.0",
        "              mdev abc",
        "              usb 046d:c52b",
    ]
    noted = domains.render_one(WIN11 | {"notes": ["managed='yes': libvirt rebinds 0000:01:00.0, too"]})
    assert noted.endswith("  notes       managed='yes': libvirt rebinds 0000:01:00.0, too")
    assert "small: shut off" in domains.render_one(SMALL)
    assert "vCPU x -> CPU 1" in domains.render_one({"vcpu_pins": {"x": [1], "0": [2]}})


def test_huge_pages_that_were_added() -> None:
    rows = [{"domain": "win11", "node": 1, "page_kib": 2048, "pages": 512}]
    assert "  hugepages   yes\n              512 of 2 MiB added on node 1\n" in domains.render_one(
        WIN11 | {"added_hugepages": rows}
    )
    more = [*rows, {"domain": "work", "node": 0, "page_kib": 1 << 20, "pages": 4}]
    said = status.render({"state": "converged", "hugepages": more})
    assert "  hugepages  added 512 of 2 MiB on node 1 for win11, 4 of 1 GiB on node 0 for work" in said
    assert "hugepages" not in status.render({"state": "converged", "hugepages": []})


def test_a_plan_with_nothing_in_it() -> None:
    assert plan.render({"steps": [], "refusals": [], "converged": True}).startswith("nothing to do")


def test_a_plan() -> None:
    text = plan.render({"steps": STEPS, "refusals": [REFUSAL]})
    lines = text.splitlines()
    assert lines[0] == "5 steps to take:"
    assert lines[1].startswith("  override      0000:01:00.0: (none) -> vfio-pci ")
    assert lines[1].endswith("  win11 has it")
    assert lines[2].startswith("  unbind        0000:01:00.0: nouveau -> (none)")
    assert lines[5].strip() == "idle"  # its step took the whole line
    assert text.endswith("1 refusal:\n  0000:02:00.0: win10 has it\n    to do: stop win10")


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_a_plan_keeps_to_the_terminal(width: int) -> None:
    whys = [
        line for line in plan.render({"steps": STEPS[:3]}, Style(width=width)).splitlines() if "words" in line
    ]
    assert whys
    assert all(columns_of(line) <= width for line in whys)
    text = plan.render({"refusals": [REFUSAL | {"reason": "words " * 40}]}, Style(width=width))
    assert all(columns_of(line) <= width for line in text.splitlines())


def test_a_refusal_names_its_object_once() -> None:
    text = plan.render({"steps": [], "refusals": [REFUSAL | {"reason": "0000:02:00.0 is in use"}]})
    assert text.splitlines()[1] == "  0000:02:00.0 is in use"


def test_refusals_alone() -> None:
    assert plan.render({"steps": [], "refusals": [REFUSAL]}).startswith("1 refusal:")


def test_status_of_a_host_that_is_fine() -> None:
    answer = {
        "version": "1.2",
        "state": "converged",
        "pass": 7,
        "devices": [
            {"address": "0000:01:00.0", "owner": {"kind": "domain", "who": "win11"}},
            {"address": "0000:02:00.0", "owner": {"kind": "idle", "who": ""}},
            {"address": "0000:01:00.1", "owner": {"kind": "domain", "who": "win11"}},
        ],
        "domains": [{"name": "win11", "state": "running"}, {"name": "small", "state": "paused"}],
        "isolation": {
            "cpus": [2, 3, 10],
            "for": ["win11"],
            "partitions": [
                {"unit": "machine.slice", "kind": "isolated", "cpus": [2, 3, 10], "for": ["win11"]}
            ],
        },
        "degraded": [],
    }
    assert status.render(answer).splitlines() == [
        "converged: the host is as it should be",
        "  devices    win11 has 0000:01:00.0, 0000:01:00.1; idle on VFIO: 0000:02:00.0",
        "  domains    win11 running, small paused",
        "  isolation  CPUs 2-3,10 for win11",
        "             machine.slice is a partition (isolated): CPUs 2-3,10",
        "  daemon     hostler 1.2, pass 7",
    ]


def test_status_of_a_host_that_is_not() -> None:
    answer = {
        "version": "1",
        "state": "degraded",
        "pass": 7,
        "devices": [{"address": "0000:01:00.0", "owner": {"kind": "degraded", "who": ""}}],
        "domains": [],
        "isolation": {"cpus": "", "for": []},
        "degraded": [
            {"object": "0000:01:00.0", "reason": "it did not bind", "since": "yesterday", "remedy": "look"},
            {"object": "x", "reason": "r", "since": None, "remedy": ""},
        ],
    }
    text = status.render(answer, Style(color=True))
    assert text.startswith("\033[31mdegraded\033[0m: a person must look")
    assert "  devices    degraded: 0000:01:00.0\n  domains    none\n" in text
    assert "isolation  none" in text
    assert "degraded: 0000:01:00.0 (since yesterday)" in text
    assert "  why:   it did not bind\n  to do: look\n" in text
    assert "journalctl" in status.render({"state": "degraded"})


def test_status_tells_what_else_is_worth_knowing() -> None:
    answer = {
        "state": "working",
        "refusals": [REFUSAL],
        "residue": ["init.scope", "system.slice"],
        "sleep": {"refused": True, "why": "win11 has 0000:01:00.0"},
        "libvirt": "not reachable",
    }
    text = status.render(answer)
    assert "  libvirt    not reachable\n" in text
    assert "  sleep      the host's suspend is refused: win11 has 0000:01:00.0\n" in text
    assert "  residue    AllowedCPUs is set to all CPUs on init.scope, system.slice\n" in text
    assert "refused: 0000:02:00.0\n  why:   win10 has it\n  to do: stop win10" in text


def test_status_names_a_domain_that_has_a_slice_alone() -> None:
    mdev = {"uuid": "u", "type": "nvidia-63", "parent": "0000:04:00.0", "domain": "cad"}
    said = status.render({"state": "converged", "devices": [], "mdevs": [mdev]})
    assert "cad has a slice of 0000:04:00.0 (nvidia-63)" in said


def test_status_tells_what_there_is_to_know_of_a_domains_cpus() -> None:
    noted = {"name": "win11", "state": "running", "notes": ["pinned by hand: vCPU 0 to 15"]}
    lines = status.render({"domains": [noted, {"name": "work", "state": "running"}]}).splitlines()
    at = lines.index("  domains    win11 running, work running")
    assert lines[at + 1].strip() == "win11: pinned by hand: vCPU 0 to 15"


def test_status_tells_which_programs_have_cpus_or_wait_for_some() -> None:
    game = {"name": "ga\x1bme", "pid": 7, "uid": 1000, "cpus": [2, 3, 4], "idle": [12]}
    said = status.render({"claims": [game, {"name": "make", "pid": 8, "uid": 0, "cpus": [], "idle": []}]})
    assert "  claim      ga?me (pid 7, uid 1000) has CPUs 2-4 (12 kept empty)\n" in said
    assert "  claim      make (pid 8, uid 0) waits for CPUs\n" in said


def test_status_of_an_answer_with_little_in_it() -> None:
    assert status.render({}).splitlines()[0] == "-"


def test_events() -> None:
    event = {"time": "12:00:00", "kind": "step", "object": "0000:01:00.0", "text": "on\nvfio"}
    assert watch.render(event) == "12:00:00  step          0000:01:00.0: on vfio"
    assert watch.render({"time": "t", "kind": "pass", "text": "done"}) == "t  pass          done"
    assert watch.render({"time": "t", "kind": "gone", "object": "o"}) == "t  gone          o"
    assert watch.render({}) == "-  -"
    assert "\033[31mrefused" in watch.render({"kind": "refused"}, Style(color=True))


def test_moments() -> None:
    now = time.time()
    assert moment(now) == time.strftime("%H:%M:%S", time.localtime(now))
    assert moment(0).startswith(("1970-01-01", "1969-12-31"))
    assert moment("2024-01-01T00:00:00") == "2024-01-01T00:00:00"
    assert moment(1e300) == "1e+300"
    assert moment(True) == "yes"
    assert moment(None) == "-"

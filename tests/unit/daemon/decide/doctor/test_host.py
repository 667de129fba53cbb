"""The kernel, rivals, the installation, clocks and memory."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.unit.daemon.decide.doctor.small import by_id, findings, function, judged, processors

from hostlerd.decide.doctor import diagnose
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.settings import Settings
from hostlerd.observe.checkup import observe_checkup

CGROUP = "/sys/fs/cgroup"
PROCESSES = {"/proc/1/comm": "systemd\n"}


@pytest.mark.parametrize(
    ("release", "severity", "word"),
    [
        ("5.15.0-91-generic", "warning", "older"),
        ("6.1.0-13-amd64", "note", "lose that choice"),
        ("6.5.0", "ok", "6.7"),
        ("6.12.9", "ok", "will do"),
    ],
)
def test_kernel(release: str, severity: str, word: str) -> None:
    for files in (
        {"/proc/sys/kernel/osrelease": f"{release}\n"},
        {"/proc/version": f"Linux version {release} (x@y)\n"},
    ):
        found = findings(files)["kernel"]
        assert found.severity == severity
        assert word in f"{found.what} {found.why}"
        assert release in found.evidence


def test_vgpus_are_a_matter_of_who_has_such_a_card() -> None:
    files, links = function("0000:01:00.0", group=1, vendor="0x10de")
    files |= {"/proc/sys/kernel/osrelease": "6.7.0\n"}
    assert "vGPU" in findings(files, links)["kernel"].why
    assert "vGPU" not in findings({"/proc/sys/kernel/osrelease": "6.7.0\n"})["kernel"].why


@pytest.mark.parametrize(
    ("files", "severity", "word"),
    [
        ({}, "note", ""),
        ({f"{CGROUP}/cgroup.controllers": "cpuset cpu\n"}, "ok", ""),
        ({f"{CGROUP}/cgroup.controllers": "cpu memory\n"}, "warning", "cgroup_disable"),
        ({f"{CGROUP}/cpuset/cpuset.cpus": "0-3\n"}, "warning", "unified_cgroup_hierarchy=1"),
        (
            {
                f"{CGROUP}/cpuset/cpuset.cpus": "0-3\n",
                "/proc/cmdline": "systemd.unified_cgroup_hierarchy=0",
            },
            "warning",
            "take systemd.unified_cgroup_hierarchy=0 off",
        ),
    ],
)
def test_control_groups(files: Mapping[str, str], severity: str, word: str) -> None:
    found = findings(files)["control-groups"]
    assert (found.severity, found.known) == (severity, severity != "note")
    assert word in found.do


def running(*names: str) -> dict[str, str]:
    return PROCESSES | {f"/proc/{pid}/comm": f"{name}\n" for pid, name in enumerate(names, 100)}


def test_programs() -> None:
    assert not findings({})["rivals"].known
    found = findings(running("irqbalance", "tuned", "supergfxd", "power-profiles-", "bash"))
    severities = {id_: one.severity for id_, one in found.items() if id_.startswith("rival")}
    assert severities == {
        "rival:irqbalance": "note",
        "rival:tuned": "note",
        "rival:supergfxd": "warning",
        "rival:power-profiles-daemon": "note",
    }


HOOKS = "/etc/libvirt/hooks"


def test_hooks_of_others() -> None:
    found = findings(
        {
            f"{HOOKS}/qemu": "#!/bin/sh\n# taskset\nlogger $1\n",
            f"{HOOKS}/qemu.d/hostler": "driver_override",
            f"{HOOKS}/qemu.d/win11/prepare/begin/start.sh": "virsh nodedev-detach pci_1\nsystemctl stop gdm\n",
            f"{HOOKS}/qemu.d/win11/started/begin/cpu.sh": "systemctl set-property user.slice AllowedCPUs=0\n",
            f"{HOOKS}/network": "driver_override",
        }
    )
    hooks = {id_: one for id_, one in found.items() if id_.startswith("hook")}
    assert {id_: one.severity for id_, one in hooks.items()} == {
        "hook": "ok",
        "hooks": "ok",
        f"hook:{HOOKS}/qemu.d/win11/prepare/begin/start.sh": "warning",
        f"hook:{HOOKS}/qemu.d/win11/started/begin/cpu.sh": "warning",
    }
    start = hooks[f"hook:{HOOKS}/qemu.d/win11/prepare/begin/start.sh"].what
    assert "binds devices" in start
    assert "stops the display manager" in start
    assert f"{HOOKS}/qemu" in hooks["hooks"].what


class Closed(Tree):
    """Files that only root may read, and what may be run."""

    def __init__(self, *closed: str, modes: Mapping[str, bool] | None = None) -> None:
        super().__init__()
        self.closed, self.modes = closed, modes or {}

    def read(self, path: str) -> str:
        if path in self.closed:
            raise PermissionError(13, "Permission denied", path)
        return super().read(path)

    def listdir(self, path: str) -> list[str]:
        if path in self.closed:
            raise PermissionError(13, "Permission denied", path)
        return super().listdir(path)

    def executable(self, path: str) -> bool | None:
        return self.modes.get(path)


def look(host: Tree, *, live: bool = True, settings: Settings | None = None, policy: str = ""):
    return by_id(diagnose(observe_checkup(host, live=live, policy=policy), settings or Settings()))


def test_what_may_not_be_read_is_said_and_not_guessed() -> None:
    host = Closed("/etc/libvirt/qemu", f"{HOOKS}/qemu", HOOKS)
    host.put("/etc/libvirt/qemu/a.xml", "<domain/>")
    host.put(f"{HOOKS}/qemu", "x")
    found = look(host)
    for path in ("/etc/libvirt/qemu", HOOKS):
        assert not found[f"unread:{path}"].known
    assert not found["domains"].known
    assert not found["hooks"].known
    assert not found["hook"].known


def test_a_hook_that_may_not_be_read() -> None:
    host = Closed(f"{HOOKS}/qemu")
    host.put(f"{HOOKS}/qemu", "x")
    assert not look(host)[f"hook:{HOOKS}/qemu"].known


@pytest.mark.parametrize(
    ("files", "modes", "severity"),
    [
        ([f"{HOOKS}/qemu.d/hostler"], {}, "ok"),
        ([f"{HOOKS}/qemu.d/hostler"], {f"{HOOKS}/qemu.d/hostler": True}, "ok"),
        ([f"{HOOKS}/qemu.d/hostler"], {f"{HOOKS}/qemu.d/hostler": False}, "broken"),
        (["/etc/libvirt/libvirt.conf"], {}, "broken"),
        ([], {}, "note"),
    ],
)
def test_our_hook(files: list[str], modes: dict[str, bool], severity: str) -> None:
    host = Closed(modes=modes)
    for path in files:
        host.put(path, "")
    assert look(host)["hook"].severity == severity
    if severity == "broken" and not modes:
        assert look(host, live=False)["hook"].severity == "warning"


def test_hooks_that_are_not_executable_do_not_count() -> None:
    host = Closed(modes={f"{HOOKS}/qemu": False})
    host.put(f"{HOOKS}/qemu", "driver_override")
    assert f"hook:{HOOKS}/qemu" not in look(host)


@pytest.mark.parametrize(
    ("files", "severity"),
    [
        ({}, "note"),
        (running("hostlerd"), "ok"),
        (running("bash"), "warning"),
        ({**running("hostlerd"), "/proc/100/cmdline": "python3\0-I\0/usr/bin/hostlerd\0"}, "ok"),
        ({**running("hostlerd"), "/proc/100/cmdline": "hostlerd\0--sim\0"}, "warning"),
        ({**running("hostlerd"), "/proc/100/cmdline": "/usr/bin/hostlerd\0offline\0doctor\0"}, "warning"),
    ],
)
def test_the_daemon(files: Mapping[str, str], severity: str) -> None:
    assert findings(files, live=True)["daemon"].severity == severity
    assert "daemon" not in findings(files)  # whether it runs is nothing a recording tells of this host


@pytest.mark.parametrize(
    ("library", "severity", "word"),
    [("0.9000.0", "ok", "9.0.0"), ("0.8000.0", "warning", "8.0.0"), ("0.11003.0", "ok", "11.3.0")],
)
def test_libvirt(library: str, severity: str, word: str) -> None:
    found = findings({"/usr/lib64/": ""}, {"/usr/lib64/libvirt.so.0": f"libvirt.so.{library}"})["libvirt"]
    assert (found.severity, word in found.what) == (severity, True)
    assert not findings({})["libvirt"].known


def test_both_kinds_of_daemons() -> None:
    assert findings(running("libvirtd", "virtqemud"))["libvirt.daemons"].severity == "warning"
    assert findings(running("virtqemud"))["libvirt.daemons"].severity == "ok"
    wants = "/etc/systemd/system/sockets.target.wants"
    enabled = {f"{wants}/libvirtd.socket": "", f"{wants}/virtqemud.socket": ""}
    assert findings(enabled)["libvirt.daemons"].severity == "warning"


def test_policy_and_suspend() -> None:
    found = look(Tree(), settings=Settings(suspend="allow"), policy="hostler.toml:3: no such key")
    assert "hostler.toml:3" in found["policy"].why
    assert found["suspend"].severity == "note"
    assert not {"policy", "suspend"} & set(look(Tree()))


@pytest.mark.parametrize(
    ("control", "told"), [("on", False), ("off", True), ("forceoff", True), ("notsupported", False)]
)
def test_smt(control: str, *, told: bool) -> None:
    assert ("smt" in findings({"/sys/devices/system/cpu/smt/control": control})) == told


@pytest.mark.parametrize(
    ("governor", "driver", "severity"),
    [
        ("powersave", "acpi-cpufreq", "warning"),
        ("powersave", "intel_pstate", "ok"),
        ("powersave", "amd-pstate-epp", "ok"),
        ("schedutil", "acpi-cpufreq", "ok"),
    ],
)
def test_clock(governor: str, driver: str, severity: str) -> None:
    folder = "/sys/devices/system/cpu/cpu0/cpufreq"
    host = processors(
        {f"{folder}/scaling_governor": f"{governor}\n", f"{folder}/scaling_driver": f"{driver}\n"}
    )
    assert by_id(judged(host))["clock"].severity == severity


HUGE = "/sys/kernel/mm/hugepages/hugepages-1048576kB"
MEMORY = {"/proc/meminfo": "MemTotal:       16777216 kB\n"}


def asking(gib: int) -> dict[str, str]:
    xml = f"""<domain type='kvm'><name>a</name><memory unit='GiB'>{gib}</memory>
        <memoryBacking><hugepages/></memoryBacking><vcpu>1</vcpu><cpu><numa>
        <cell id='0' cpus='0' memory='{gib}' unit='GiB'/></numa></cpu></domain>"""
    return {"/etc/libvirt/qemu/a.xml": xml, **MEMORY}


@pytest.mark.parametrize(
    ("files", "severity", "word"),
    [
        (asking(32) | {f"{HUGE}/nr_hugepages": "0"}, "warning", "32 GiB"),
        (
            asking(8) | {f"{HUGE}/nr_hugepages": "4", f"{HUGE}/free_hugepages": "4"},
            "note",
            "4 GiB are reserved",
        ),
        (asking(8) | {f"{HUGE}/nr_hugepages": "8"}, None, ""),
        (
            {**MEMORY, "/etc/libvirt/qemu/": "", f"{HUGE}/nr_hugepages": "8", f"{HUGE}/free_hugepages": "8"},
            "note",
            "no domain asks",
        ),
        ({**MEMORY, f"{HUGE}/nr_hugepages": "8", f"{HUGE}/free_hugepages": "8"}, None, ""),
    ],
)
def test_huge_pages(files: Mapping[str, str], severity: str | None, word: str) -> None:
    found = findings(files).get("huge-pages")
    assert (None if found is None else found.severity) == severity
    assert found is None or word in found.what


def test_transparent_huge_pages() -> None:
    xml = "<domain type='kvm'><name>a</name></domain>"
    off = {"/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"}
    assert "huge-pages.transparent" in findings({**off, "/etc/libvirt/qemu/a.xml": xml})
    assert "huge-pages.transparent" not in findings(off)

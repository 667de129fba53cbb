"""isolcpus=, nohz_full=, rcu_nocbs= against what domains would have, and the line that is suggested."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.daemon.decide.doctor.small import CPUS, INTEL, by_id, function, judged, processors

from hostlerd.decide.doctor.shares import room
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.command_line import CommandLine, parse_cpus
from hostlerd.model.cpus import CoreClass
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list
from hostlerd.model.settings import DomainPolicy, Housekeeping, Settings
from hostlerd.observe.cpus import observe_cpus

GPU = "0000:01:00.0"
SHARED = Settings(domains=DomainPolicy(cpus="shared"))


def host(line: str | None, *, domains: int | None = 0, **shape: object) -> Tree:
    """8 cores, 16 CPUs (core n is n and n + 8), a card; `domains`: of 4 vCPUs that have it, None: not known."""
    made = processors(**shape)
    files, links = function(GPU, group=1, driver="amdgpu")
    for path, text in files.items():
        if path.endswith("/"):
            made.folder(path)
        else:
            made.put(path, text)
    for path, target in links.items():
        made.link_as_is(path, target)
    if line is not None:
        made.put("/proc/cmdline", line + "\n")
    if domains is not None:
        made.folder("/etc/libvirt/qemu")
        for number in range(domains):
            xml = domain(f"vm{number}", hostdevs=[GPU], cores=2, threads=2)
            made.put(f"/etc/libvirt/qemu/vm{number}.xml", xml)
    return made


def test_nothing_said_is_fine() -> None:
    found = by_id(judged(host("ro quiet")))
    assert found["boot-isolation"].severity == "ok"
    assert found["boot-isolation"].known


def test_without_a_line_and_without_files_nothing_is_claimed() -> None:
    made = processors()
    made.remove(f"{CPUS}/isolated")
    assert not by_id(judged(made))["boot-isolation"].known


def planned() -> str:
    """What one domain gets on this host."""
    line = CommandLine(text=judged(host("ro", domains=1)).boot.realtime)
    return line.value("nohz_full") or ""


def test_the_planner_says_which_cpus_whole_cores() -> None:
    cpus = parse_cpu_list(planned())
    assert len(cpus) == 4
    assert not cpus & {0, 8}
    assert {cpu % 8 for cpu in cpus} == {cpu for cpu in cpus if cpu < 8}
    boot = judged(host("ro quiet", domains=1)).boot
    assert boot.line == "ro quiet"
    assert boot.realtime == (
        f"ro quiet nohz_full={planned()} rcu_nocbs={planned()} isolcpus=managed_irq,domain,{planned()}"
    )
    assert "taken from the host for good" in boot.costs


def test_domains_that_have_none_of_their_own() -> None:
    boot = judged(host("ro isolcpus=4-7 nohz_full=4-7 rcu_nocbs=4-7", domains=1), SHARED)
    assert by_id(boot)["isolcpus"].severity == "warning"
    assert by_id(boot)["nohz_full"].severity == "warning"
    assert boot.boot.line == "ro"
    assert boot.boot.realtime == ""


@pytest.mark.parametrize("flags", ["", "managed_irq,domain,"])
def test_isolated_cpus_of_no_domain(flags: str) -> None:
    found = judged(host(f"ro isolcpus={flags}12-15"))
    stale = by_id(found)["isolcpus"]
    assert stale.severity == "warning"
    assert "12-15" in stale.what
    # As long as no domain is defined, it may be one that is to come.
    assert found.boot.line == f"ro isolcpus={flags}12-15"
    elsewhere = judged(host(f"ro isolcpus={flags}2-3"))
    assert by_id(elsewhere)["isolcpus"].severity == "warning"
    assert "isolcpus=domain" not in elsewhere.boot.line


def test_isolated_cpus_of_another_plan_are_corrected() -> None:
    cpus = planned()
    found = judged(host("ro isolcpus=managed_irq,domain,7,15", domains=1))
    assert by_id(found)["isolcpus"].severity == "warning"
    assert cpus in by_id(found)["isolcpus"].do
    assert found.boot.line == f"ro isolcpus=domain,managed_irq,{cpus}"


def test_isolated_cpus_of_the_plan_are_a_note() -> None:
    found = judged(host(f"ro isolcpus={planned()} nohz_full={planned()}", domains=1))
    assert by_id(found)["isolcpus"].severity == "note"
    assert by_id(found)["nohz_full"].severity == "note"
    assert "without rcu_nocbs=" in by_id(found)["nohz_full"].why
    assert found.boot.line == f"ro isolcpus={planned()} nohz_full={planned()}"


def test_where_domains_are_not_known_nothing_is_wasted() -> None:
    found = judged(host("ro isolcpus=4-7", domains=None))
    assert by_id(found)["isolcpus"].severity == "note"
    assert found.boot.line == "ro isolcpus=4-7"


def test_managed_interrupts_alone_take_no_cpu() -> None:
    found = judged(host("ro isolcpus=managed_irq,4-7"))
    assert "isolcpus" not in by_id(found)


@pytest.mark.parametrize("line", ["isolcpus=4-", "isolcpus=domain", "isolcpus=no3,4"])
def test_a_list_that_makes_no_sense(line: str) -> None:
    found = by_id(judged(host(line)))["isolcpus"]
    assert found.severity == "warning"
    assert "makes no sense" in found.what


def test_cpus_that_are_not_there() -> None:
    found = by_id(judged(host("isolcpus=14-20 nohz_full=30", domains=None)))
    assert "16-20" in found["isolcpus.absent"].what
    assert found["nohz_full.absent"].severity == "warning"


def test_a_kernel_without_nohz_full() -> None:
    made = host("ro nohz_full=4-7", domains=1)
    made.put("/proc/sys/kernel/osrelease", "6.1.0\n")
    made.put("/boot/config-6.1.0", "# CONFIG_NO_HZ_FULL is not set\nCONFIG_RCU_NOCB_CPU=y\n")
    found = judged(made)
    assert "has no effect" in by_id(found)["nohz_full"].what
    assert "nohz_full=" not in found.boot.realtime
    assert f"rcu_nocbs={planned()}" in found.boot.realtime


def test_the_boot_cpu_is_left_out_by_the_kernel() -> None:
    assert "boots on" in by_id(judged(host("nohz_full=0-7", domains=None)))["nohz_full"].why


def test_a_realtime_profile_says_what_it_misses() -> None:
    realtime = Settings(domains=DomainPolicy(profile="realtime"))
    assert by_id(judged(host("ro", domains=1), realtime))["realtime"].severity == "note"
    assert "realtime" not in by_id(judged(host("ro", domains=1)))


def test_isolated_without_a_line() -> None:
    made = host(None)
    made.put(f"{CPUS}/isolated", "4-7\n")
    assert by_id(judged(made))["isolcpus"].severity == "warning"


@pytest.mark.parametrize(
    ("shape", "settings", "cpus"),
    [
        ({}, Settings(), "4-7,12-15"),  # the level-3 cache it does not boot on
        ({"l3_kib": (32768,)}, Settings(), "1-3,5-7"),
        ({"l3_kib": (32768,)}, Settings(housekeeping=Housekeeping(at_least=4)), "2-3,6-7"),
        ({}, Settings(housekeeping=Housekeeping(cpus=frozenset({4}))), "1-3,5-7,9-11,13-15"),
        ({"threads": 1}, Settings(), "4-7"),
        ({"nodes_by": "l3"}, Settings(), "1-3,5-7,9-11,13-15"),  # a core for each node's own work
        ({}, SHARED, ""),
        ({"l3_kib": (32768,), "cores_per_l3": 1}, Settings(), ""),
    ],
)
def test_room_where_no_domain_says(shape: dict[str, object], settings: Settings, cpus: str) -> None:
    assert format_cpu_list(room(observe_cpus(processors(**shape)), settings)) == cpus


def test_small_cores_stay_the_host_s() -> None:
    topology = observe_cpus(processors(l3_kib=(32768,), threads=1, cores_per_l3=8))
    big, small = CoreClass.PERFORMANCE, CoreClass.EFFICIENCY
    mixed = replace(
        topology, cpus=tuple(replace(cpu, core_class=big if cpu.id < 4 else small) for cpu in topology.cpus)
    )
    assert format_cpu_list(room(mixed, Settings())) == "1-3"


WORDS = st.sampled_from(
    [
        "ro",
        "quiet",
        "mitigations=off",
        "intel_iommu=on",
        "intel_iommu=off",
        "iommu=pt",
        "amd_iommu=on",
        "isolcpus=4-7",
        "isolcpus=managed_irq,12-15",
        "isolcpus=managed_irq,domain,1-3,9-11",
        "nohz_full=4-7,12-15",
        "nohz_full=all",
        "rcu_nocbs=0-N",
        "rcu-nocbs=4",
        "vfio-pci.ids=1002:73bf",
        "video=efifb:off",
        "pcie_acs_override=downstream",
        "--",
    ]
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=8), st.sampled_from([None, 0, 1, 2]), st.booleans())
def test_whoever_follows_the_advice_is_given_no_more(
    words: list[str], domains: int | None, intel: bool
) -> None:
    def with_line(line: str) -> Tree:
        made = host(line, domains=domains)
        if intel:
            made.put("/proc/cpuinfo", INTEL["/proc/cpuinfo"])
            made.remove("/sys/kernel/iommu_groups/1")
        return made

    boot = judged(with_line(" ".join(words))).boot
    again = judged(with_line(boot.line)).boot
    assert (again.line, again.add, again.remove) == (boot.line, (), ())
    # What is an option of safety, or anybody's own word, stays as it is.
    assert ("mitigations=off" in boot.line.split()) == (
        "mitigations=off" in CommandLine(text=" ".join(words)).words
    )
    if boot.realtime:
        done = judged(with_line(boot.realtime))
        assert not done.boot.add
        assert done.boot.realtime == ""
        cpus = parse_cpus(CommandLine(text=boot.realtime).value("nohz_full") or "")
        assert cpus is not None
        assert 0 not in cpus

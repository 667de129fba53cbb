"""Control groups."""

from __future__ import annotations

from tests.unit.daemon.observe.recorded import tree

from hostlerd.model.cpus import Cpu, Topology
from hostlerd.model.isolation import Groups
from hostlerd.observe.groups import observe_groups

ROOT = "/sys/fs/cgroup"
CPUS = frozenset(range(8))
TOPOLOGY = Topology(
    cpus=tuple(Cpu(id=n, core=n, siblings=frozenset({n}), socket=0, node=0, l3=None) for n in sorted(CPUS))
)
UNIFIED = {f"{ROOT}/cgroup.controllers": "cpuset cpu\n", f"{ROOT}/cpuset.cpus.effective": "0-7\n"}
WIN11 = "machine-qemu\\x2d1\\x2dwin11.scope"


def observe(files: dict[str, str]) -> Groups:
    return observe_groups(tree(files), TOPOLOGY)


def test_units_with_what_was_asked_and_what_is() -> None:
    groups = observe(
        {
            **UNIFIED,
            f"{ROOT}/init.scope/cpuset.cpus": "\n",
            f"{ROOT}/init.scope/cpuset.cpus.effective": "0-7\n",
            f"{ROOT}/system.slice/cpuset.cpus": "0-1\n",
            f"{ROOT}/system.slice/cpuset.cpus.effective": "0-1\n",
        }
    )
    assert groups.unified
    assert [group.unit for group in groups.units] == ["init.scope", "system.slice"]
    init, system = groups.units
    assert (init.allowed, init.effective, init.path) == (frozenset(), CPUS, f"{ROOT}/init.scope")
    assert (system.allowed, system.effective) == ({0, 1}, {0, 1})


def test_without_the_controller_the_ancestors_cpus_hold() -> None:
    groups = observe(
        {
            **UNIFIED,
            f"{ROOT}/user.slice/cgroup.procs": "",
            f"{ROOT}/machine.slice/cpuset.cpus": "2-5\n",
            f"{ROOT}/machine.slice/cpuset.cpus.effective": "2-5\n",
            f"{ROOT}/machine.slice/{WIN11}/cgroup.procs": "",
        }
    )
    assert {group.unit: group.effective for group in groups.units} == {
        "user.slice": CPUS,
        "machine.slice": {2, 3, 4, 5},
        WIN11: {2, 3, 4, 5},
    }


def test_what_is_in_machine_slice_is_listed_and_domains_are_known() -> None:
    children = [WIN11, "libpod-0123.scope", "systemd-nspawn@web.service", "machine-lxc\\x2d1\\x2dbox.scope"]
    files = {f"{ROOT}/machine.slice/{child}/cgroup.procs": "" for child in (*children, "not a unit")}
    groups = observe({**UNIFIED, **files})
    assert {g.unit for g in groups.units if not g.is_domain} == {"machine.slice", *children[1:]}
    (domain,) = (g for g in groups.units if g.is_domain)
    assert domain.path == f"{ROOT}/machine.slice/{WIN11}"


def test_other_slices_at_the_top_are_listed() -> None:
    groups = observe(
        {**UNIFIED, **{f"{ROOT}/{n}/cgroup.procs": "" for n in ("gaming.slice", "lxc.payload.x")}}
    )
    assert [group.unit for group in groups.units] == ["gaming.slice"]


def test_version_1_and_hybrid_are_not_unified() -> None:
    assert observe({f"{ROOT}/cpuset/cpuset.cpus": "0-7\n"}) == Groups(unified=False)
    assert observe({f"{ROOT}/unified/cgroup.controllers": "\n", f"{ROOT}/cpuset/tasks": ""}) == Groups(
        unified=False
    )


def test_a_recording_without_groups_has_the_usual_units() -> None:
    groups = observe({"/proc/version": "x\n"})
    assert groups.unified
    assert [group.unit for group in groups.units] == [
        "init.scope",
        "system.slice",
        "user.slice",
        "machine.slice",
    ]
    assert {group.effective for group in groups.units} == {CPUS}
    assert {group.allowed for group in groups.units} == {frozenset()}


def test_a_slice_with_a_domain_below_counts_as_a_domain_and_what_is_beside_it_is_listed() -> None:
    """<resource><partition>/production</partition></resource>, or /machine/production."""
    top, inside = f"{ROOT}/production.slice", f"{ROOT}/machine.slice/machine-production.slice"
    folders = (f"{top}/{WIN11}", f"{top}/batch.scope", f"{inside}/{WIN11}", f"{inside}/libpod-1.scope")
    found = observe({**UNIFIED, **{f"{folder}/cpuset.cpus.effective": "0-7\n" for folder in folders}})
    assert [(group.unit, group.is_domain) for group in found.units] == [
        ("machine.slice", False),
        ("machine-production.slice", True),
        ("libpod-1.scope", False),
        (WIN11, True),
        ("production.slice", True),
        ("batch.scope", False),
        (WIN11, True),
    ]


def test_programs_are_no_work_of_the_hosts_and_those_without_a_process_are_over() -> None:
    slice_ = f"{ROOT}/hostler.slice"
    scope = f"{slice_}/hostler-claim-a1.scope"
    groups = observe(
        {
            **UNIFIED,
            f"{ROOT}/other.slice/cgroup.procs": "",
            f"{scope}/cpuset.cpus": "2-3\n",
            f"{scope}/cpuset.cpus.effective": "2-3\n",
            f"{scope}/cgroup.events": "populated 1\nfrozen 0\n",
            f"{slice_}/hostler-claim-b2.scope/cgroup.events": "populated 0\nfrozen 0\n",
            f"{slice_}/somebody.scope/cgroup.events": "populated 1\nfrozen 0\n",
        }
    )
    assert [group.unit for group in groups.units] == ["other.slice"]
    [program] = groups.programs
    assert (program.unit, program.allowed, program.path) == ("hostler-claim-a1.scope", {2, 3}, scope)


def test_what_is_no_unit_is_a_stranger_while_something_runs_in_it() -> None:
    groups = observe(
        {
            **UNIFIED,
            f"{ROOT}/docker/cgroup.events": "populated 1\nfrozen 0\n",
            f"{ROOT}/docker/cpuset.cpus": "\n",
            f"{ROOT}/docker/cpuset.cpus.effective": "0-3\n",
            f"{ROOT}/lxc.pivot/cgroup.events": "populated 0\nfrozen 0\n",
            f"{ROOT}/dev-hugepages.mount/cgroup.events": "populated 1\nfrozen 0\n",
            f"{ROOT}/system.slice/cgroup.events": "populated 1\nfrozen 0\n",
        }
    )
    assert [(group.unit, group.effective) for group in groups.strangers] == [("docker", {0, 1, 2, 3})]

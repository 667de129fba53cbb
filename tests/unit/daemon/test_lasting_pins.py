"""Where a domain begins, written into its definition, through the whole loop on the simulated host."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import Stable, simulated, stable

from hostler.errors import Refused, Unreachable
from hostlerd.act.definitions import FOLDER
from hostlerd.decide.lasting_pins import planned_pins
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.domains import Definition
from hostlerd.model.edits import PINS, PinsChange, in_force
from hostlerd.model.isolation import Group
from hostlerd.model.programs import Program
from hostlerd.model.settings import DomainPolicy, Settings
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.reconcile.gpu import GpuRequest
from hostlerd.reconcile.pins import PinsRequest

pytestmark = pytest.mark.trio

WRITE = Settings(domains=DomainPolicy(write_config=True, cpus="dedicated"))
PLAIN = Settings(domains=DomainPolicy(cpus="dedicated"))
LONG = 10.0
"""Longer than a wish for an edit must last."""


def text(host: SimulatedHost, name: str = "win11") -> str:
    return host.hypervisor.domains[name].inactive or ""


def defined(host: SimulatedHost, name: str = "win11") -> Definition:
    return parse_domain(text(host, name))


def live(host: SimulatedHost, name: str = "win11") -> Definition:
    return parse_domain(host.hypervisor.domains[name].live or "")


def nodes_of(one: Stable, definition: Definition) -> set[int]:
    by_id = one.passes[-1][0].topology.by_id
    return {by_id[cpu].node for cpus in definition.vcpu_pins.values() for cpu in cpus}


def edits_told(one: Stable, name: str = "win11") -> int:
    return len([kind for kind, who, _ in one.told if who == name and kind == "definition"])


async def test_a_domain_begins_where_it_belongs_and_all_is_taken_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        await host.hypervisor.define(domain("win11", memory_mib=8192))
        before = text(host)
        await one.settle()
        assert text(host) == before  # not at once
        await trio.sleep(LONG)
        pinned = defined(host)
        assert sorted(pinned.vcpu_pins) == [0, 1, 2, 3]
        assert pinned.numatune is not None
        assert pinned.numatune.mode == "strict"
        assert set(pinned.numatune.nodes) == nodes_of(one, pinned)
        assert pinned.emulator_pins
        assert one.plan.converged
        await host.hypervisor.start("win11")
        await one.settle()
        # It began there, so nothing had to be moved; and it is ours to be moved, not explicit.
        assert live(host).vcpu_pins == pinned.vcpu_pins
        assert not [step for step in one.told if step[0] == "pin" and "vcpu" in step[1]]
        (placement,) = one.plan.placements
        assert not placement.explicit
        assert placement.vcpus == tuple(pinned.vcpu_pins[i] for i in range(4))
        assert one.plan.cautions == ()
        await host.hypervisor.destroy("win11")
        await trio.sleep(LONG)
        assert edits_told(one) == 1
        one.reconciler.apply(PLAIN)
        await trio.sleep(LONG)
        assert text(host) == before
        assert not one.reconciler._shared.definitions.edits


async def test_what_is_pinned_by_hand_wins_over_what_it_began_with(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        await host.hypervisor.define(domain("win11"))
        await trio.sleep(LONG)
        await host.hypervisor.start("win11")
        await one.settle()
        began = live(host).vcpu_pins
        await host.hypervisor.pin_by_hand("win11", "vcpupin", 1, frozenset({9}))
        await one.settle()
        assert live(host).vcpu_pins == {**began, 1: {9}}
        (notes,) = one.plan.notes.values()
        assert any("by hand" in note and "vCPU 1 to 9" in note for note in notes)
        await host.hypervisor.destroy("win11")
        await trio.sleep(LONG)
        assert defined(host).vcpu_pins == began  # and is forgotten when it stops
        await host.hypervisor.start("win11")
        await one.settle()
        assert live(host).vcpu_pins == began


async def test_a_burst_is_one_edit(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated("server")
    settings = Settings(
        domains=DomainPolicy(cpus="dedicated"),
        overrides={"win11": DomainPolicy(cpus="dedicated", write_config=True)},
    )
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("win11"))
        await trio.sleep(LONG)
        assert edits_told(one) == 1
        first = defined(host).vcpu_pins
        for number in range(6):
            await host.hypervisor.define(domain(f"d{number}", cores=4))
            await host.hypervisor.start(f"d{number}")
            await trio.sleep(1.0)
        assert defined(host).vcpu_pins == first
        await trio.sleep(LONG)
        assert edits_told(one) == 2
        taken = {cpu for p in one.plan.placements for cpus in p.vcpus or () for cpu in cpus}
        assert not taken & {cpu for cpus in defined(host).vcpu_pins.values() for cpu in cpus}
        for number in range(6):
            await host.hypervisor.destroy(f"d{number}")
        await trio.sleep(LONG)
        assert edits_told(one) == 3
        assert defined(host).vcpu_pins == first


async def test_what_is_waited_for_begins_anew_when_libvirt_goes_away(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Or the lane would look again and again at once, and every look would fail."""
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        await host.hypervisor.define(domain("win11"))
        await one.settle()
        lane = one.reconciler._libvirt_lane
        assert lane.look_again_after < LONG
        host.hypervisor.stop_libvirtd()
        with pytest.raises(Unreachable):
            await lane.one_pass()
        assert lane.look_again_after == math.inf


async def test_programs_keep_their_cpus_and_a_new_one_is_a_new_plan(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        await host.hypervisor.define(domain("win11"))
        await one.settle()
        observed = one.passes[-1][0]
        (off,) = observed.snapshot.inactive
        alone = planned_pins(observed, WRITE, off)
        assert isinstance(alone, PinsChange)
        cpu = alone.vcpus[0][1]
        program = Program(id="1", name="p", uid=0, pid=1, start=1, count=1, cpus=cpu)
        there = frozenset({int(cpu)})
        scope = Group(unit=program.scope, allowed=there, effective=there, path="/x")
        beside = replace(
            observed,
            groups=replace(observed.groups, programs=(scope,)),
            ledger=replace(observed.ledger, programs={"1": program}),
        )
        other = planned_pins(beside, WRITE, off)
        assert isinstance(other, PinsChange)
        assert cpu not in dict(other.vcpus).values()
        assert not there & parse_cpu_list(other.emulator)


async def test_cells_are_bound_where_their_vcpus_are(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("lab")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        await host.hypervisor.define(domain("win11", cores=3, cells=("0-1", "2-5"), memory_mib=1024))
        await trio.sleep(LONG)
        pinned = defined(host)
        assert pinned.numatune is not None
        assert not pinned.numatune.nodes
        by_id = one.passes[-1][0].topology.by_id
        for cell, vcpus in ((0, (0, 1)), (1, (2, 3, 4, 5))):
            nodes = {by_id[cpu].node for vcpu in vcpus for cpu in pinned.vcpu_pins[vcpu]}
            assert set(pinned.numatune.cells[cell]) == nodes
        await host.hypervisor.start("win11")
        await one.settle()
        assert live(host).vcpu_pins == pinned.vcpu_pins


async def test_on_one_node_there_is_no_numatune(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("desktop")
    async with stable(host, tmp_path / "journal", WRITE):
        await host.hypervisor.define(domain("win11"))
        await trio.sleep(LONG)
        assert len(defined(host).vcpu_pins) == 4
        assert defined(host).numatune is None


async def test_memory_that_no_node_has_room_for_is_not_bound(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE):
        await host.hypervisor.define(domain("win11", memory_mib=200 * 1024))
        await trio.sleep(LONG)
        found = defined(host).numatune
        assert found is not None
        assert found.mode == "preferred"


async def test_all_that_are_off_may_be_started_at_once(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Each was planned without the others: the same CPUs, and more memory on one node than it has."""
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        names = ("a", "b", "c")
        for name in names:
            await host.hypervisor.define(domain(name, memory_mib=50 * 1024))
        await trio.sleep(5 * LONG)
        modes = {name: tuning.mode for name in names if (tuning := defined(host, name).numatune) is not None}
        assert sorted(modes.values()) == ["preferred", "strict", "strict"]
        assert len({str(defined(host, name).vcpu_pins) for name in names}) == 1
        assert one.plan.converged
        edits = sum(edits_told(one, name) for name in names)
        assert edits <= 4
        for name in names:
            await host.hypervisor.start(name)
        await one.settle()
        taken = [cpu for p in one.plan.placements for cpus in p.vcpus or () for cpu in cpus]
        assert len(taken) == len(set(taken)) == 12
        for placement in one.plan.placements:
            name = next(n for n in names if defined(host, n).uuid == placement.uuid)
            assert live(host, name).vcpu_pins == dict(enumerate(placement.vcpus or ()))
        moved = {obj.split("/")[0] for kind, obj, _ in one.told if kind == "pin" and "vcpu" in obj}
        assert len(moved) == 2  # one stayed where it began
        _, dry = await one.reconciler.change_pins(PinsRequest(domain="a", dry_run=True))
        assert dry.xml  # of one that runs, too


async def test_what_is_explicit_stays(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", WRITE) as one:
        await host.hypervisor.define(domain("win11", pins={0: "40", 1: "41", 2: "42", 3: "43"}))
        await host.hypervisor.define(domain("part", pins={0: "8"}))
        await trio.sleep(LONG)
        assert {i: set(c) for i, c in defined(host).vcpu_pins.items()} == {0: {40}, 1: {41}, 2: {42}, 3: {43}}
        assert defined(host).numatune is not None  # its memory is to be where it pins itself to
        assert set(defined(host, "part").vcpu_pins[0]) == {8}
        assert len(defined(host, "part").vcpu_pins) == 4
        await one.settle()
        await host.hypervisor.start("part")
        await one.settle()
        placement = next(p for p in one.plan.placements if p.uuid == defined(host, "part").uuid)
        assert set(placement.explicit) == {8}


async def test_an_element_that_somebody_changes_is_theirs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", PLAIN) as one:
        await host.hypervisor.define(domain("win11"))
        await one.settle()
        before = text(host)
        _, outcome = await one.reconciler.change_pins(PinsRequest(domain="win11"))
        assert outcome.changed
        await one.settle()
        cpu = min(defined(host).vcpu_pins[2])
        theirs = text(host).replace(f'vcpu="2" cpuset="{cpu}"', 'vcpu="2" cpuset="50"')
        assert theirs != text(host)
        await host.hypervisor.define(theirs)
        await one.settle()
        assert any("somebody" in words for kind, _, words in one.told if kind == "definition")
        edit = in_force(one.reconciler._shared.definitions.edits, defined(host).uuid, PINS)
        assert edit is not None
        assert [vcpu for vcpu, _ in edit.pins.vcpus] == [0, 1, 3]
        await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        assert {i: set(c) for i, c in defined(host).vcpu_pins.items()} == {2: {50}}
        assert defined(host).numatune is None
        assert before.count("<cpu ") == text(host).count("<cpu ")


async def test_the_command(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated("server")
    async with stable(host, tmp_path / "journal", PLAIN) as one:
        await host.hypervisor.define(domain("win11"))
        await one.settle()
        before = text(host)
        _, dry = await one.reconciler.change_pins(PinsRequest(domain="win11", dry_run=True))
        assert "+" in dry.diff
        assert text(host) == before
        _, made = await one.reconciler.change_pins(PinsRequest(domain="win11"))
        assert made.diff == dry.diff
        await trio.sleep(LONG)
        assert len(defined(host).vcpu_pins) == 4  # policy does not take back what a person asked for
        _, again = await one.reconciler.change_pins(PinsRequest(domain="win11"))
        assert not again.changed
        one.reconciler.apply(WRITE)
        with pytest.raises(Refused, match="policy has the pins"):
            await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        one.reconciler.apply(PLAIN)
        await host.hypervisor.start("win11")
        await one.settle()
        with pytest.raises(Refused, match="win11 runs"):
            await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        await host.hypervisor.destroy("win11")
        await one.settle()
        await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        assert text(host) == before
        with pytest.raises(Refused, match="no edit"):
            await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        off = Settings(domains=DomainPolicy(cpus="off"))
        one.reconciler.apply(off)
        with pytest.raises(Refused, match='has cpus = "off"'):
            await one.reconciler.change_pins(PinsRequest(domain="win11"))


async def test_edits_of_both_kinds_come_and_go_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    card = next(f.address for f in host.spec.functions if f.class_code >> 16 == 3)
    async with stable(host, tmp_path / "journal", PLAIN) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[card]))
        await one.settle()
        before = text(host)
        await one.reconciler.change_pins(PinsRequest(domain="win11"))
        await one.settle()
        with_pins = text(host)
        await one.reconciler.change_gpu(GpuRequest(domain="win11", way="emulated"))
        await one.settle()
        with_both = text(host)
        await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        await one.settle()
        assert (defined(host).gpu, defined(host).vcpu_pins) == ("emulated", {})
        await one.reconciler.change_gpu(GpuRequest(domain="win11", way="undo"))
        await one.settle()
        assert text(host) == before
        await one.reconciler.change_pins(PinsRequest(domain="win11"))
        await one.settle()
        await one.reconciler.change_gpu(GpuRequest(domain="win11", way="emulated"))
        await one.settle()
        assert text(host) == with_both
        await one.reconciler.change_gpu(GpuRequest(domain="win11", way="undo"))
        await one.settle()
        assert text(host) == with_pins
        await one.reconciler.change_pins(PinsRequest(domain="win11", undo=True))
        await one.settle()
        assert text(host) == before


async def test_killed_at_any_line_it_begins_and_ends_as_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Defined, written, started, stopped, and at some line of the journal the daemon dies and comes back."""

    async def once(line: int) -> bool:
        host, path = simulated("server"), tmp_path / f"journal-{line}"
        await host.hypervisor.define(domain("win11"))
        original = text(host)

        async def happens() -> None:
            await trio.sleep(LONG)
            for action in ("start", "destroy"):
                await does(host, action)()
                await trio.testing.wait_all_tasks_blocked(0.005)
                await trio.sleep(LONG)

        died = await life(host, path, line, happens, WRITE)
        async with stable(host, path, WRITE) as one:
            await trio.sleep(LONG)
            assert len(defined(host).vcpu_pins) == 4
            await does(host, "start")()
            await one.settle()
            (placement,) = one.plan.placements
            assert not placement.explicit
            assert live(host).vcpu_pins == defined(host).vcpu_pins
            await does(host, "destroy")()
            one.reconciler.apply(PLAIN)
            await trio.sleep(LONG)
            assert text(host) == original
            assert one.plan.converged
        return died

    await at_every_line(once, more_than=4, below=80)


async def test_a_file_of_an_older_daemon_is_read(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Edits had no pins then."""
    host = simulated("server")
    async with stable(host, tmp_path / "journal", PLAIN) as one:
        await host.hypervisor.define(domain("win11"))
        await one.settle()
        await one.reconciler.change_gpu(GpuRequest(domain="win11", way="emulated"))
        await one.settle()
    path = f"{FOLDER}/{defined(host).uuid}.json"
    kept = json.loads(host.files.read(path))
    del kept["edits"][0]["pins"]
    host.kernel.tree.put(path, json.dumps(kept))
    host.kernel.kicks.clear()
    host.hypervisor.kicks.clear()
    async with stable(host, tmp_path / "journal", PLAIN) as one:
        await one.reconciler.change_gpu(GpuRequest(domain="win11", way="undo"))
        assert defined(host).gpu == "none"

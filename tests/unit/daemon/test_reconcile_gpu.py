"""How a domain has its GPU, through the whole loop on the simulated host: asked for, and by the declared fallback."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, NIC, Stable, simulated, stable

from hostler.errors import BadInput, HostFailed, Refused, Unreachable
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.domains import Definition
from hostlerd.model.settings import DevicePolicy, DomainPolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.reconcile.gpu import GpuRequest

pytestmark = pytest.mark.trio

FALLBACK = Settings(
    domains=DomainPolicy(fallback="emulated"),
    devices=(DevicePolicy(name="gaming", match=Match(address=GPU)),),
)
LONG = 10.0
"""Longer than a wish for an edit must last."""


def text(host: SimulatedHost, name: str = "win11") -> str:
    return host.hypervisor.domains[name].inactive or ""


def defined(host: SimulatedHost, name: str = "win11") -> Definition:
    return parse_domain(text(host, name))


async def ask(one: Stable, *words: str, **more: object) -> bool:
    """`hostler gpu`; whether anything changed."""
    what = words[2] if len(words) > 2 else ""
    request = GpuRequest(domain=words[0], way=words[1], what=what, **more)  # type: ignore[arg-type]
    _, outcome = await one.reconciler.change_gpu(request)
    await one.settle()
    return outcome.changed


async def test_from_a_card_to_an_emulated_display_and_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    await host.hypervisor.define(domain("win11", hostdevs=CARD))
    before = text(host)
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        assert await ask(one, "win11", "emulated")
        assert (defined(host).gpu, defined(host).pci_addresses) == ("emulated", ())
        await host.hypervisor.start("win11")  # and it starts
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert await ask(one, "win11", "passthrough", "gaming")
        assert defined(host).pci_addresses == CARD
        assert not [h for h in defined(host).hostdevs if h.managed]
        await host.hypervisor.start("win11")
        await host.hypervisor.destroy("win11")
        await one.settle()
        for _ in range(2):
            assert await ask(one, "win11", "undo")
        assert text(host) == before
        assert [kind for kind, name, _ in one.told if name == "win11" and kind == "definition"] == [
            "definition"
        ] * 4


async def test_what_makes_no_sense_is_refused(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated()
    await host.hypervisor.define(domain("win11", hostdevs=CARD))
    async with stable(host, tmp_path / "journal") as one:
        for words, wrong in (
            (("nobody", "emulated"), "no domain 'nobody'"),
            (("win11", "passthrough", "0000:3f:00.0"), "no device of this host is meant"),
            (("win11", "passthrough", "0000:00:01.0"), "is a bridge"),
            (("win11", "slice", f"vf:{NIC}"), "cannot have virtual functions"),
        ):
            with pytest.raises(BadInput, match=wrong):
                await ask(one, *words)
        with pytest.raises(Refused, match="no edit"):
            await ask(one, "win11", "undo")
        host.hypervisor.stop_libvirtd()
        await one.settle()
        with pytest.raises(Unreachable):
            await ask(one, "win11", "emulated")


async def test_a_domain_that_runs_is_refused_but_for_what_can_be_plugged(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    await host.hypervisor.define(domain("win11"))
    settings = Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU), when_idle="vfio"),))
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.start("win11")
        await one.settle()
        before = text(host)
        with pytest.raises(Refused, match="win11 runs"):
            await ask(one, "win11", "passthrough", GPU)
        assert await ask(one, "win11", "passthrough", GPU, dry_run=True)
        with pytest.raises(Refused, match=f"{NIC} is not on VFIO"):
            await ask(one, "win11", "passthrough", NIC, live=True)
        with pytest.raises(Refused, match="cannot plug <video>"):
            await ask(one, "win11", "emulated", live=True)
        assert text(host) == before
        assert await ask(one, "win11", "passthrough", GPU, live=True)
        assert parse_domain(host.hypervisor.domains["win11"].live or "").pci_addresses == CARD
        assert one.plan.owners[GPU].who == "win11"
        assert await ask(one, "win11", "undo", live=True)
        assert text(host) == before
        assert one.plan.owners[GPU].kind == "idle"


async def test_the_fallback_when_the_card_is_pulled_out_and_put_in_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("lab")
    card = host.spec.cards["second"][0].address
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        await host.simulate("plug", {"card": "second"})
        await host.hypervisor.define(domain("win11", hostdevs=[card]))
        await trio.sleep(LONG)
        before = text(host)
        assert one.plan.converged
        await host.simulate("unplug", {"address": card})
        await one.settle()
        assert text(host) == before  # not at once: it may come back
        (step,) = one.plan.steps
        assert (step.kind, step.object, step.after) == ("definition", "win11", "emulated virtio")
        await trio.sleep(LONG)
        assert defined(host).gpu == "emulated"
        with pytest.raises(Refused, match="would make it again"):
            await ask(one, "win11", "undo")
        await host.hypervisor.start("win11")
        await host.simulate("plug", {"card": "second"})
        await trio.sleep(LONG)
        assert defined(host).gpu == "emulated"  # it runs
        await host.hypervisor.destroy("win11")
        await trio.sleep(LONG)
        assert text(host) == before
        assert one.plan.converged
        await host.hypervisor.start("win11")


async def test_a_card_that_comes_back_in_a_moment_changes_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("lab")
    card = host.spec.cards["second"][0].address
    await host.simulate("plug", {"card": "second"})
    await host.hypervisor.define(domain("win11", hostdevs=[card]))
    before = text(host)
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        for _ in range(5):
            await host.simulate("unplug", {"address": card})
            await trio.sleep(1)
            await host.simulate("plug", {"card": "second"})
            await trio.sleep(1)
        await trio.sleep(LONG)
        assert text(host) == before
        assert "definition" not in [kind for kind, _, _ in one.told]
        assert not [what for name, what in host.hypervisor.events if what == "defined"][1:]


async def test_two_domains_that_share_a_card_take_turns(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    for name in ("win11", "work"):
        await host.hypervisor.define(domain(name, hostdevs=[GPU]))
    before = text(host, "work")
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        await host.hypervisor.start("win11")
        await trio.sleep(LONG)
        assert defined(host, "work").gpu == "emulated"
        assert defined(host).pci_addresses == (GPU,)
        await host.hypervisor.start("work")
        await host.hypervisor.destroy("win11")
        await trio.sleep(LONG)
        await host.hypervisor.destroy("work")
        await trio.sleep(LONG)
        assert text(host, "work") == before
        assert one.plan.converged


async def test_a_definition_that_libvirt_refuses_is_degraded_and_tried_again_when_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("lab")
    card = host.spec.cards["second"][0].address
    await host.hypervisor.define(domain("win11", hostdevs=[card]))
    host.kernel.faults.cause("define-fails", "win11")
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        await trio.sleep(LONG)
        assert "validate" in one.journal.ledger.troubles["win11"].reason
        assert defined(host).pci_addresses == (card,)
        host.kernel.lift("define-fails", "win11")
        assert await one.reconciler.retry("win11")
        await trio.sleep(LONG)
        assert defined(host).gpu == "emulated"


async def test_another_life_takes_back_what_the_last_one_did(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Also after a reboot, of which the journal is void."""
    host = simulated("lab")
    card = host.spec.cards["second"][0].address
    await host.hypervisor.define(domain("win11", hostdevs=[card]))
    before = text(host)
    async with stable(host, tmp_path / "journal", FALLBACK):
        await trio.sleep(LONG)
        assert defined(host).gpu == "emulated"
    (tmp_path / "journal").unlink()
    await host.simulate("plug", {"card": "second"})
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        await trio.sleep(LONG)
        assert text(host) == before
        await host.hypervisor.start("win11")
        assert one.plan.owners[card].who == "win11"
        await host.hypervisor.destroy("win11")
        await host.hypervisor.undefine("win11")
        await one.settle()
        with pytest.raises((BadInput, HostFailed)):
            await ask(one, "win11", "undo")


async def test_a_domain_that_is_not_defined_any_more_is_forgotten(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    await host.hypervisor.define(domain("win11", hostdevs=CARD))
    async with stable(host, tmp_path / "journal") as one:
        await ask(one, "win11", "emulated")
        assert host.files.listdir("/var/lib/hostler/definitions")
        await host.hypervisor.undefine("win11")
        await one.settle()
        one.reconciler.look_at_domains.kick()
        await one.settle()
        assert not host.files.listdir("/var/lib/hostler/definitions")


async def test_a_fallback_that_policy_does_not_want_any_more_ends(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("lab")
    await host.hypervisor.define(domain("win11", hostdevs=[host.spec.cards["second"][0].address]))
    before = text(host)
    async with stable(host, tmp_path / "journal", FALLBACK) as one:
        await trio.sleep(LONG)
        assert defined(host).gpu == "emulated"
        one.reconciler.apply(Settings())
        await trio.sleep(LONG)
        assert text(host) == before

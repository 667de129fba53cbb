"""Which driver a device is given to VFIO by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import AUDIO, GPU, WIN11, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.model.devices import Variant
from hostlerd.model.domains import Snapshot
from hostlerd.model.identity import identity
from hostlerd.model.ledger import DeviceRecord, Ledger, Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Override, Plan, Probe
from hostlerd.model.settings import DevicePolicy, Match, Settings

CLAIM = claim(domain(WIN11, GPU))
NEW, OLD = 10_000_000, 9_099_999
PAIR = {address: observed().functions[address] for address in (GPU, AUDIO)}
DRIVERS = frozenset({"vfio-pci", "amdgpu", "snd_hda_intel", "xhci_hcd", "e1000e"})


def state(libvirt: int | None, variant: Variant | None = None, **more: object) -> Observed:
    seen = observed(None, CLAIM, **more)
    known = dict.fromkeys(seen.functions, None) | {GPU: variant}
    return replace(seen, snapshot=Snapshot(known=True, taken=2, libvirt=libvirt), variants=known)


def policy(driver: str) -> Settings:
    return Settings(devices=(DevicePolicy(name="card", match=Match(address=GPU), vfio_driver=driver),))


def overrides(plan: Plan) -> dict[str, str | None]:
    return {step.object: step.after for step in plan.steps if isinstance(step, Override)}


@pytest.mark.parametrize("libvirt", [None, OLD])
def test_an_old_libvirt_or_none_gets_vfio_pci_and_nothing_is_asked(libvirt: int | None) -> None:
    plan = decide(replace(state(libvirt), variants={}), Settings())
    assert overrides(plan)[GPU] == "vfio-pci"
    assert not [question for question in plan.questions if question.kind == "variant"]


def test_a_new_libvirt_gets_the_variant_of_each_function() -> None:
    plan = decide(
        state(NEW, Variant(module="labvfio", driver="labvfio"), drivers=DRIVERS | {"labvfio"}), Settings()
    )
    assert overrides(plan)[GPU] == "labvfio"
    assert overrides(plan)[AUDIO] == "vfio-pci"
    probes = {step.object: step for step in plan.steps if isinstance(step, Probe)}
    assert (probes[GPU].after, probes[GPU].to_vfio) == ("labvfio", True)
    (record,) = [s.record for s in plan.steps if isinstance(s, Override) and s.object == GPU]
    assert record is not None
    assert record.ours.split() == ["labvfio", "vfio-pci"]


def test_it_is_asked_before_anything_is_moved() -> None:
    plan = decide(replace(state(NEW), variants={}), Settings())
    assert GPU in [question.object for question in plan.questions if question.kind == "variant"]


def test_its_module_is_loaded_before_anything_is_moved() -> None:
    plan = decide(state(NEW, Variant(module="labvfio")), Settings())
    (load,) = [step for step in plan.steps if step.kind == "load-module"]
    assert (load.object, load.claim) == ("labvfio", WIN11)
    assert not overrides(plan)


def test_a_module_that_does_not_load_leaves_vfio_pci() -> None:
    ledger = Ledger(troubles={"labvfio": Trouble(object="labvfio", reason="no", remedy="", since=0)})
    plan = decide(state(NEW, Variant(module="labvfio"), ledger=ledger), Settings())
    assert overrides(plan)[GPU] == "vfio-pci"


@pytest.mark.parametrize("libvirt", [OLD, NEW])
def test_policy_may_want_vfio_pci(libvirt: int) -> None:
    variant = Variant(module="labvfio", driver="labvfio")
    assert overrides(decide(state(libvirt, variant), policy("vfio-pci")))[GPU] == "vfio-pci"


def test_what_libvirt_rebinds_to_a_variant_for_its_domain_goes_home_all_the_same() -> None:
    """managed='yes', libvirt 11.3: policy's vfio-pci does not last, and nobody undoes it at the end."""
    given = {a: replace(f, driver="vfio-pci", override="vfio-pci", on_vfio=True) for a, f in PAIR.items()}
    given[GPU] = replace(given[GPU], driver="labvfio", override="labvfio")
    drivers = DRIVERS | {"labvfio"}
    records = {
        a: DeviceRecord(address=a, driver=f.driver, override=None, identity=identity(f))
        for a, f in PAIR.items()
    }
    seen = replace(
        observed(None, replace(CLAIM, prepared=True), drivers=drivers), holders=dict.fromkeys(PAIR, ())
    )
    held = replace(seen, functions={**seen.functions, **given}, ledger=replace(seen.ledger, devices=records))
    (noted,) = [
        s for s in decide(held, policy("vfio-pci")).steps if isinstance(s, Override) and s.object == GPU
    ]
    assert (noted.before, noted.after) == ("labvfio", "labvfio")
    assert noted.record is not None
    after = replace(held, ledger=replace(held.ledger, devices={**records, GPU: noted.record}))
    assert GPU not in overrides(decide(after, policy("vfio-pci")))
    stopped = replace(after, ledger=replace(after.ledger, claims={}))
    (probe,) = [
        s for s in decide(stopped, policy("vfio-pci")).steps if isinstance(s, Probe) and s.object == GPU
    ]
    assert probe.after == PAIR[GPU].driver


def test_policy_may_name_one_whatever_libvirt_knows() -> None:
    plan = decide(state(OLD, drivers=DRIVERS | {"lab-vfio"}), policy("lab_vfio"))
    assert overrides(plan)[GPU] == "lab-vfio"
    plan = decide(state(OLD), policy("lab_vfio"))
    assert [(step.kind, step.object) for step in plan.steps if step.kind == "load-module"] == [
        ("load-module", "lab_vfio")
    ]

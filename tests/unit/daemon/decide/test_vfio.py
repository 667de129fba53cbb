"""Which driver a device is given to VFIO by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import AUDIO, GPU, WIN11, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.model.devices import Variant
from hostlerd.model.domains import Snapshot
from hostlerd.model.ledger import Ledger, Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Override, Plan, Probe
from hostlerd.model.settings import DevicePolicy, Match, Settings

CLAIM = claim(domain(WIN11, GPU))
NEW, OLD = 10_000_000, 9_099_999
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


def test_policy_may_name_one_whatever_libvirt_knows() -> None:
    plan = decide(state(OLD, drivers=DRIVERS | {"lab-vfio"}), policy("lab_vfio"))
    assert overrides(plan)[GPU] == "lab-vfio"
    plan = decide(state(OLD), policy("lab_vfio"))
    assert [(step.kind, step.object) for step in plan.steps if step.kind == "load-module"] == [
        ("load-module", "lab_vfio")
    ]

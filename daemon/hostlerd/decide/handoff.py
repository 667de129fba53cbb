"""The steps that bring each PCI function to who should have it.

Pure. Order, over all devices of a plan: override all, look once more who has one open, let the boot framebuffer go,
unbind all (or unload the driver), resize BARs, probe all. With the override first, nothing else can grab a device
between its unbind and its probe; unbinding all before probing any makes every group viable at once. On the way back the
override is aimed at the home driver and cleared last, for the same reason; no driver is given a card that does not
answer; a driver whose module has gone meanwhile is loaded before the probe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hostlerd.decide import life
from hostlerd.decide.adoption import adopt, aimed_by_rule, noted, rebound, took_by_rule
from hostlerd.decide.bars import forgotten, grow, shrink
from hostlerd.decide.gate import must_let_go
from hostlerd.decide.life import decide_removed
from hostlerd.decide.ownership import VFIO, Ownership, Want
from hostlerd.decide.screen import let_go
from hostlerd.decide.vfio import VfioDrivers
from hostlerd.model.devices import Function
from hostlerd.model.identity import identity
from hostlerd.model.ledger import DeviceRecord, UnloadedRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import CheckFree, LoadModule, Override, Probe, Step, Unbind, UnloadModule
from hostlerd.model.questions import Question
from hostlerd.model.settings import DevicePolicy, Settings

NO_DRIVER = "none"
"""No driver has this name, so no driver matches (Documentation/ABI/testing/sysfs-bus-pci, driver_override)."""


class _Phases:
    """Steps by phase, so that they come out in the order of the module's rule."""

    def __init__(self) -> None:
        self.override: list[Step] = []
        self.check: list[Step] = []
        self.screen: list[Step] = []
        self.unbind: list[Step] = []
        self.bars: list[Step] = []
        self.alive: list[Step] = []
        self.load: list[Step] = []
        self.probe: list[Step] = []
        self.clear: list[Step] = []

    def all(self) -> list[Step]:
        return [
            *self.override,
            *self.check,
            *self.screen,
            *self.unbind,
            *self.alive,
            *self.bars,
            *self.load,
            *self.probe,
            *self.clear,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """`settled`: the addresses whose record can be closed."""

    steps: list[Step]
    settled: list[str]
    questions: list[Question]


def decide_handoff(observed: Observed, settings: Settings, own: Ownership, vfio: VfioDrivers) -> Handoff:
    questions: list[Question] = [*vfio.questions]
    back, there = _Phases(), _Phases()
    removed, settled = decide_removed(observed)
    settled += forgotten(observed)
    back.override += removed
    being_found = _being_found(observed)
    reviving = _revive(back, questions, observed, settings, own)
    for address, record in sorted(observed.ledger.devices.items()):
        if address in own.wants or address in own.holder or observed.untouchable(address):
            continue
        if address in reviving.waiting or address in being_found:
            continue
        on_vfio = address in observed.functions and observed.functions[address].on_vfio
        if on_vfio and address not in observed.holders:
            questions.append(Question(kind="holders", object=address))
            continue
        function = observed.functions.get(address)
        if function is None or identity(function) != record.identity:
            settled.append(
                address
            )  # it is gone, or the address is another card's now: nothing left to put back
            continue
        policy = life.policy_of(observed, settings, function)
        own_policy = settings.device(function)  # no companion follows in the driver
        wanted = own_policy.driver if own_policy is not None else None
        if function.slot in reviving.slots:
            only = _Phases()
            _return(only, observed, function, record, policy, wanted=wanted)
            back.override += only.override
            back.unbind += only.unbind
            continue
        bars, asked, done = shrink(observed, function)
        back.bars += bars
        questions += asked
        settled += done
        if not _return(back, observed, function, record, policy, wanted=wanted) and not bars and not asked:
            settled.append(address)
    for address, want in sorted(own.wants.items()):
        function = observed.functions.get(address)
        if function is None or observed.untouchable(address):
            continue
        if want.waits and aimed_by_rule(observed, function, want):
            there.clear.append(adopt(function, want))
        if not want.waits:
            _take(there, observed, function, want, vfio.of.get(address, VFIO))
            if want.place == "vfio" and not function.on_vfio:
                bars, asked = grow(observed, function, want, settings.device(function))
                there.bars += bars
                questions += asked
    if vfio.loads:  # until these are in, nobody knows what to override with
        there = _Phases()
        there.load += vfio.loads.values()
    _unload(there, observed, own)
    _check(there, observed, own)
    # After the unbinds: a driver whose module finds nothing to drive may not load at all (NVIDIA's).
    back.load = _load_homes(back, observed)
    steps = back.all()
    taking = there.all()
    if VFIO not in observed.drivers and any(
        isinstance(step, Probe) and step.after == VFIO for step in taking
    ):
        claim = next((step.claim for step in taking if step.claim), None)
        steps.append(
            LoadModule(
                object=VFIO, before=None, after="loaded", why="devices go to VFIO", claim=claim, driver=VFIO
            )
        )
    return Handoff(steps=steps + taking, settled=settled, questions=questions)


def _being_found(observed: Observed) -> set[str]:
    """Functions that were removed and are not there again yet."""
    return {r.address for r in observed.ledger.removed.values() if r.address not in observed.functions}


@dataclass(slots=True, kw_only=True)
class _Reviving:
    """`waiting`: for an answer, or for what is tried. `slots`: what is left on VFIO there is unbound and no more."""

    waiting: set[str]
    slots: set[str]


def _revive(
    phases: _Phases,
    questions: list[Question],
    observed: Observed,
    settings: Settings,
    own: Ownership,
) -> _Reviving:
    """What has left VFIO and does not answer may be woken, once. A slot of which a part is still removed waits."""
    ledger = observed.ledger
    half = {address.rpartition(".")[0] for address in _being_found(observed)}
    back = [
        function
        for address, record in ledger.devices.items()
        if (function := observed.functions.get(address)) is not None
        and function.readable
        and address not in own.wants
        and address not in own.holder
        and not observed.untouchable(address)
        and (record.driver is not None or record.any_driver)
    ]
    freed = [function for function in back if function.driver is None and function.slot not in half]
    unknown = [f.address for f in freed if f.address not in observed.alive]
    questions += [Question(kind="alive", object=address) for address in unknown]
    found = _Reviving(waiting={*unknown, *(f.address for f in back if f.slot in half)}, slots=set())
    for function in freed:
        policy = life.policy_of(observed, settings, function)
        if observed.alive.get(function.address) is not False or function.slot in found.slots:
            continue
        how = "no" if policy is None else policy.recover
        free = [f.address for f in back if f.driver is None or f.on_vfio]
        others = life.behind_the_same_bridge(observed, function, free) if how == "reset" else []
        if others or not life.may_be_tried(observed, function.address, policy, life.HOME):
            phases.alive.append(life.check(observed, function, policy, hopeless=True, others=others))
            found.waiting.add(function.address)
            continue
        found.slots.add(function.slot)
        found.waiting |= {f.address for f in freed if f.slot == function.slot}
        if not any(f.on_vfio and f.slot == function.slot for f in back):
            phases.alive += life.recover(function, how, [f.address for f in freed], attempt=life.HOME)
    return found


def _unload(phases: _Phases, observed: Observed, own: Ownership) -> None:
    """In place of the unbinds of one driver, its unloading, which is refused where it would have hung."""
    unbinds: list[Step] = []
    unloads: dict[str, Step] = {}
    for step in phases.unbind:
        function = observed.functions[step.object]
        if own.wants[step.object].leave != "unload" or function.module is None:
            unbinds.append(step)
        elif function.module not in unloads:
            grip = observed.grips.get(step.object)
            modules = tuple(module.name for module in grip.modules) if grip else (function.module,)
            unloads[function.module] = UnloadModule(
                object=function.module,
                before="loaded",
                after=None,
                why=f"{function.driver} may never return from an unbind, but says at once if it cannot be unloaded",
                claim=step.claim,
                modules=modules,
                addresses=tuple(a for a, f in observed.functions.items() if f.driver == function.driver),
                record=UnloadedRecord(module=function.module, device=step.object, stack=modules),
            )
    phases.unbind = [*unloads.values(), *unbinds]


def _check(phases: _Phases, observed: Observed, own: Ownership) -> None:
    """One look for each claim (and one for all that is idle) before its devices leave their drivers."""
    leaving: dict[str | None, list[str]] = {}
    for step in phases.override:
        if must_let_go(observed.functions[step.object]):
            leaving.setdefault(own.wants[step.object].claim, []).append(step.object)
    phases.check = [
        CheckFree(
            object=addresses[0],
            before=None,
            after="free",
            why="a driver's remove() waits for whoever has its device open",
            claim=claim,
            functions=tuple(observed.functions[address] for address in addresses),
        )
        for claim, addresses in leaving.items()
    ]


def _load_homes(phases: _Phases, observed: Observed) -> list[Step]:
    """Drivers that the devices on their way back need and that are not there: by their module, else by the alias."""
    steps: dict[str, Step] = {}
    for step in phases.probe:
        record = observed.ledger.devices[step.object]
        if step.after is None or step.after in observed.drivers:
            continue
        module = record.module or observed.functions[step.object].modalias or step.after
        if not observed.ledger.untouchable(module):
            steps[module] = LoadModule(
                object=module,
                before=None,
                after="loaded",
                why=f"{step.object} goes back to {step.after}",
                driver=step.after,
                device=step.object,
            )
    return list(steps.values())


def _take(phases: _Phases, observed: Observed, function: Function, want: Want, vfio_driver: str) -> None:
    vfio = want.place == "vfio"
    if vfio and took_by_rule(observed, function, want):
        phases.override.append(adopt(function, want))
        return
    if vfio and (record := rebound(observed, function, want)) is not None:
        phases.override.append(noted(function, want, record))
        return
    if function.on_vfio if vfio else (function.driver is None and function.override == NO_DRIVER):
        return
    target = vfio_driver if vfio else NO_DRIVER
    record = observed.ledger.devices.get(function.address)
    if function.on_vfio and (record is None or function.override not in record.ours.split()):
        return  # somebody else put it there, perhaps for a guest that libvirt is just giving it to
    if record is None:
        by_rule = function.override == target and observed.rule is not None
        record = DeviceRecord(
            address=function.address,
            driver=function.driver,
            override=None if by_rule else function.override,
            any_driver=by_rule,
            module=function.module or "",
            # libvirt before 10.0 puts a device that it manages on vfio-pci, whatever VFIO driver it was on.
            ours=target if target in (VFIO, NO_DRIVER) else f"{target} {VFIO}",
            identity=identity(function),
        )
    elif target not in record.ours.split():
        record = replace(record, ours=f"{record.ours} {target}")
    phases.override.append(
        Override(
            object=function.address,
            before=function.override,
            after=target,
            why=want.why,
            claim=want.claim,
            record=record,
        )
    )
    grip = observed.grips.get(function.address)
    if vfio and grip is not None and grip.boot is not None:
        phases.screen.append(let_go(function, grip.boot, want.claim))
    if function.driver is not None:
        phases.unbind.append(
            Unbind(
                object=function.address, before=function.driver, after=None, why=want.why, claim=want.claim
            )
        )
    if vfio:
        phases.probe.append(
            Probe(
                object=function.address,
                before=None,
                after=target,
                why=want.why,
                claim=want.claim,
                to_vfio=True,
            )
        )


def _return(
    phases: _Phases,
    observed: Observed,
    function: Function,
    record: DeviceRecord,
    policy: DevicePolicy | None,
    *,
    wanted: str | None,
) -> bool:
    """Add the steps back; False where there is none to take, because it is as it was or no longer ours to change."""
    why = "nobody claims it any more"
    home, ours = wanted or record.driver, record.ours.split()
    if (
        home is not None
        and home not in observed.drivers
        and observed.ledger.untouchable(record.module or home)
    ):
        home = None  # it cannot be loaded, which status says; whatever else takes the card is better than nothing
    held = function.on_vfio or (function.driver is None and (home is not None or record.any_driver))
    aim = home if home is not None else (None if record.any_driver else record.override)
    override = function.override
    if held and override in (*ours, home, record.override):
        if override != aim:
            phases.override.append(Override(object=function.address, before=override, after=aim, why=why))
            override = aim
        if function.driver is not None:
            phases.unbind.append(Unbind(object=function.address, before=function.driver, after=None, why=why))
            if home is not None or record.any_driver:
                phases.alive.append(life.check(observed, function, policy))
        if home is not None:
            phases.probe.append(Probe(object=function.address, before=None, after=home, why=why))
        elif record.any_driver or record.driver is not None:
            # Probed once: whether anything wants it cannot be known, so no driver afterwards is an answer, too.
            done = replace(record, any_driver=False)
            phases.probe.append(Probe(object=function.address, before=None, after=None, why=why, record=done))
    elif held:
        return False  # somebody else aimed it elsewhere: theirs now
    if override != record.override and override in (*ours, home):
        phases.clear.append(
            Override(object=function.address, before=override, after=record.override, why=why)
        )
    elif not held:
        return False
    return True

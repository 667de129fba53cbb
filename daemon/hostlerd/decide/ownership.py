"""Who should have each PCI function.

Pure. A claim gets everything it needs or nothing: one refusal and none of its devices is touched. Order of right: a
domain that runs with the device, then claims by age, then what policy says of idle devices, then the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from hostlerd.decide.closure import companions, leaves_group_viable, members, virtual_functions
from hostlerd.decide.gate import blocking, decide_gate, must_let_go, on_a_driver
from hostlerd.decide.identity import stranger
from hostlerd.decide.leaving import Leave, in_use, leave, refuse_unload
from hostlerd.decide.slice_claims import SliceClaim
from hostlerd.decide.slice_wants import SliceWants
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.domains import Definition
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Owner, Refusal, Step
from hostlerd.model.questions import Question
from hostlerd.model.settings import Settings

Place = Literal["vfio", "none"]
VFIO = "vfio-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A function that must be on VFIO (or without a driver), and for whom.

    `domain`: a domain has it, or is to have it; else it is idle. `waits`: nothing of it is moved in this pass.
    """

    address: str
    place: Place
    why: str
    claim: str | None = None
    domain: bool = False
    leave: Leave = "unbind"
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A domain that runs or was granted its claim; without a UUID a process. Two may share a name: it is for people."""

    uuid: str
    name: str


@dataclass(slots=True, kw_only=True)
class Ownership:
    """By address (a mediated device by UUID): what is wanted, and who holds it. `clearing`: what has to go before."""

    wants: dict[str, Want] = field(default_factory=dict)
    slices: SliceWants = field(default_factory=SliceWants)
    holder: dict[str, Holder] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    clearing: list[Step] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def held_by_other(self, address: str, domain: Definition) -> str | None:
        """The name of whoever else has it."""
        holder = self.holder.get(address)
        return None if holder is None or holder.uuid == domain.uuid else holder.name

    def hold(self, address: str, domain: Definition) -> None:
        self.holder[address] = Holder(uuid=domain.uuid, name=domain.name)


def decide_ownership(observed: Observed, settings: Settings) -> Ownership:
    own = Ownership()
    # libvirt counts a domain as active from before its prepare hook (qemuProcessInit): not as running yet.
    starting = {claim.uuid for claim in observed.ledger.claims.values() if not claim.prepared}
    running = {d.uuid: d.live for d in observed.snapshot.running if d.uuid not in starting}
    for domain in running.values():
        for thing in (*domain.pci_addresses, *domain.mdev_uuids):
            if thing not in own.holder:
                own.hold(thing, domain)
    for claim in sorted(observed.ledger.claims.values(), key=lambda c: c.since):
        live = running.get(claim.uuid)
        asked = claim.definition.pci_addresses
        if not claim.prepared:
            _grant(own, observed, settings, claim.definition, asked)
        elif live is not None:
            _keep(own, observed, settings, live, [a for a in asked if a in live.pci_addresses])
        else:
            _keep(own, observed, settings, claim.definition, asked)
            for uuid in claim.definition.mdev_uuids:
                if own.held_by_other(uuid, claim.definition) is None:
                    own.hold(uuid, claim.definition)
    for address, process in observed.kept.items():
        # A guest's, and libvirt has not said yet, or cannot say, whose.
        own.holder.setdefault(address, Holder(uuid="", name=process))
    _idle(own, observed, settings)
    return own


def _keep(
    own: Ownership, observed: Observed, settings: Settings, domain: Definition, addresses: Iterable[str]
) -> None:
    """A domain that runs, or may: what was taken for the devices it still has stays taken; nothing is judged anew."""
    for address in _needed(observed, settings, addresses):
        if own.held_by_other(address, domain) is not None:
            continue
        own.hold(address, domain)
        if address in observed.ledger.devices:
            _want(
                own,
                observed,
                settings,
                Want(address=address, place="vfio", why=f"{domain.name} has it", domain=True),
            )


def _companions(observed: Observed, settings: Settings, address: str) -> tuple[str, ...]:
    """Those that go with it; where policy wants none, those of its own group all the same, which cannot stay."""
    functions = observed.functions
    policy = settings.device(functions[address])
    everything = policy is None or policy.companions == "auto"
    return tuple(
        other
        for other in companions(functions, address)
        if everything or functions[other].group == functions[address].group
    )


def _needed(observed: Observed, settings: Settings, addresses: Iterable[str]) -> list[str]:
    """The devices, their companions, and the members that were taken along."""
    functions = observed.functions
    needed = dict.fromkeys(a for a in addresses if a in functions)
    for address in list(needed):
        needed.update(dict.fromkeys(_companions(observed, settings, address)))
    needed.update(dict.fromkeys(m for m in members(functions, needed) if m in observed.ledger.devices))
    return list(needed)


def _grant(
    own: Ownership, observed: Observed, settings: Settings, domain: Definition, addresses: tuple[str, ...]
) -> None:
    refusals: list[Refusal] = []

    def refuse(obj: str, reason: str, remedy: str, claimed_by: str | None = None) -> None:
        refusals.append(
            Refusal(object=obj, reason=reason, remedy=remedy, claim=domain.uuid, claimed_by=claimed_by)
        )

    functions = observed.functions
    take: dict[str, str] = {}
    allowed: set[str] = set()
    slices = SliceClaim(
        observed=observed,
        settings=settings,
        domain=domain,
        before=own.slices,
        held_by_other=lambda thing: own.held_by_other(thing, domain),
        addresses=addresses,
    )
    refusals.extend(slices.refusals)
    for address in slices.ordinary:
        function = functions.get(address)
        if function is None:
            refuse(
                address,
                f"{domain.name} asks for {address}, and there is no such PCI function on this host",
                "compare the <hostdev> address with `hostler devices`",
            )
        elif not function.is_endpoint:
            refuse(
                address, f"{address} is a bridge, which VFIO cannot give away", "name the device behind it"
            )
        elif (other := own.held_by_other(address, domain)) is not None:
            refuse(address, f"{address} belongs to domain {other}", f"stop {other} first", other)
        elif function.group is None:
            refuse(
                address,
                f"{address} is in no IOMMU group, so VFIO cannot isolate it",
                "switch the IOMMU on: VT-d or AMD-Vi in the firmware, intel_iommu=on on the kernel command line",
            )
        elif (other_card := stranger(observed, settings, function)) is not None:
            refusals.append(other_card.refusal(domain.uuid))
        else:
            policy = settings.device(function)
            allowed.update(policy.group if policy else ())
            take[address] = f"{domain.name} has it as a hostdev"
    for address in list(take):
        for companion in _companions(observed, settings, address):
            if own.held_by_other(companion, domain) is None and functions[companion].group is not None:
                take.setdefault(companion, f"companion of {address} for {domain.name}")
    for address in members(functions, take):
        member = functions[address]
        owner = own.held_by_other(address, domain)
        if owner is not None:
            refuse(
                address,
                f"{address} of the same IOMMU group {member.group} belongs to domain {owner}",
                f"stop {owner} first",
                owner,
            )
        elif address in allowed:
            take[address] = (
                f"member of IOMMU group {member.group}, which policy lets {domain.name} take along"
            )
        elif not leaves_group_viable(member):
            taken = ", ".join(sorted(a for a in take if functions[a].group == member.group))
            refuse(
                address,
                f"{address} ({member.vendor:04x}:{member.device:04x}, driver {member.driver}) is in IOMMU group "
                f"{member.group} with {taken} and is the host's",
                f'add group = ["{address}"] to the [[device]] section of {taken} if the host can spare it, '
                "or put the card in another slot",
            )
    for address in take:
        children = virtual_functions(functions, address)
        if children and not functions[address].on_vfio:
            users = dict.fromkeys(own.holder[child].name for child in children if child in own.holder)
            refuse(
                address,
                f"{address} has {len(children)} virtual functions, which would go with it"
                + (f"; domain {' and '.join(users)} has some" if users else ""),
                f"stop what uses them, then write 0 to {DEVICES}/{address}/sriov_numvfs",
                next(iter(users), None),
            )
    if take and not _module_works(observed):
        trouble = observed.ledger.troubles.get(VFIO)
        refuse(
            VFIO,
            f"the module {VFIO} is degraded: {trouble.reason}"
            if trouble
            else f"{VFIO} is still being loaded",
            trouble.remedy if trouble else "try again when `hostler status` is clear",
        )
    for address in take:
        trouble = observed.ledger.troubles.get(address)
        if trouble is not None:
            refuse(address, f"{address} is degraded: {trouble.reason}", trouble.remedy)
        elif functions[address].leaving:
            refuse(
                address,
                f"{address} is being taken out of the host, and somebody still has it: the kernel waits",
                "`hostler status` says for whom",
            )
        elif observed.untouchable(address):
            refuse(
                address,
                f"a write to {address} has not returned yet",
                "try again when `hostler status` is clear",
            )
    if refusals:
        own.refusals.extend(refusals)
        return
    gate = decide_gate(observed, settings, domain, take, addresses)
    if gate.refusals:
        own.refusals.extend(gate.refusals)
        return
    own.clearing += gate.steps
    own.questions += gate.questions
    own.slices.add(slices.wants)
    for thing in slices.held:
        own.hold(thing, domain)
    for address, why in take.items():
        own.hold(address, domain)
        own.wants[address] = Want(
            address=address,
            place="vfio",
            why=why,
            claim=domain.uuid,
            domain=True,
            leave=leave(functions[address], settings.device(functions[address])),
            waits=bool(gate.steps or gate.questions),
        )


def _want(own: Ownership, observed: Observed, settings: Settings, want: Want) -> None:
    """Nobody waits for it: where somebody has it open it stays where it is, and is looked at again later."""
    function = observed.functions[want.address]
    want = replace(want, leave=leave(function, settings.device(function)))
    if must_let_go(function) and (want.place == "vfio" or on_a_driver(function)):
        holders = observed.holders.get(want.address)
        if holders is None:
            own.questions.append(Question(kind="holders", object=want.address))
        elif busy := blocking(holders):
            own.refusals.append(
                Refusal(
                    object=want.address,
                    reason=f"{want.why}, and {busy[0].told} has {busy[0].node} open",
                    remedy="it is taken when that has been closed",
                    in_use=True,
                )
            )
        elif want.leave == "unload":
            own.refusals += (busy_module := _cannot_unload(observed, settings, function))
            want = replace(want, waits=bool(busy_module))
        want = replace(want, waits=want.waits or holders is None or bool(blocking(holders)))
    own.wants[want.address] = want


def _module_works(observed: Observed) -> bool:
    return VFIO in observed.drivers or not observed.ledger.untouchable(VFIO)


def _cannot_unload(observed: Observed, settings: Settings, function: Function) -> list[Refusal]:
    """Of an idle card on a driver that is left by unloading alone."""
    going = [f for f in observed.functions.values() if (p := settings.device(f)) and p.when_idle != "host"]
    refusals = refuse_unload(observed, None, function, going)
    if not refusals and (busy := in_use(observed.grips.get(function.address))):
        refusals.append(
            Refusal(
                object=function.address,
                reason=f"{function.address} is in use: {busy}",
                remedy="it is taken when that has ended",
                in_use=True,
            )
        )
    return refusals


def _idle(own: Ownership, observed: Observed, settings: Settings) -> None:
    """What policy says of devices no domain has."""
    for function in observed.functions.values():
        policy = settings.device(function)
        if policy is None or policy.when_idle == "host" or not function.is_endpoint:
            continue
        if (other_card := stranger(observed, settings, function)) is not None:
            own.refusals.append(other_card.refusal())
            continue
        if policy.when_idle == "vfio" and function.group is None:
            own.refusals.append(
                Refusal(
                    object=function.address,
                    reason=f"policy {policy.name!r} wants {function.address} on VFIO, and it is in no IOMMU group",
                    remedy="switch the IOMMU on in the firmware and on the kernel command line",
                )
            )
            continue
        if policy.when_idle == "vfio" and not _module_works(observed):
            continue  # without a driver it would be nobody's
        if not function.on_vfio and virtual_functions(observed.functions, function.address):
            continue  # it is not idle
        along = _companions(observed, settings, function.address) if policy.when_idle == "vfio" else ()
        card = [
            address
            for address in (function.address, *along)
            if address not in own.holder
            and address not in own.wants
            and _policy_allows(observed.functions[address], settings, policy.name)
        ]
        for address in card:
            why = f"policy {policy.name!r} for idle devices"
            _want(own, observed, settings, Want(address=address, place=policy.when_idle, why=why))
        if any(own.wants[address].waits for address in card):  # the whole card or nothing of it
            own.wants |= {address: replace(own.wants[address], waits=True) for address in card}


def _policy_allows(function: Function, settings: Settings, name: str) -> bool:
    """A companion with a section of its own follows that one."""
    policy = settings.device(function)
    return policy is None or policy.name == name


def owners(observed: Observed, own: Ownership) -> dict[str, Owner]:
    """Who has each function now, for people."""
    result: dict[str, Owner] = {}
    for address, function in observed.functions.items():
        trouble = observed.ledger.troubles.get(address)
        if trouble is not None:
            result[address] = Owner(kind="degraded", who=trouble.reason)
        elif address in own.holder:
            result[address] = Owner(kind="domain", who=own.holder[address].name)
        elif function.on_vfio:
            result[address] = Owner(kind="idle")
        else:
            result[address] = Owner(kind="host", who=function.driver or "")
    for uuid in observed.slices.mdevs:
        trouble = observed.ledger.troubles.get(uuid)
        if trouble is not None:
            result[uuid] = Owner(kind="degraded", who=trouble.reason)
        elif uuid in own.holder:
            result[uuid] = Owner(kind="domain", who=own.holder[uuid].name)
        else:
            result[uuid] = Owner(kind="idle")
    return result

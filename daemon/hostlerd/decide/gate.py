"""What must be out of the way before a domain's devices are taken from their drivers: units, holders, kernel clients.

Pure. A driver's remove() may wait for ever for whoever has the device open, and no time limit rescues a write that has
begun: so nothing is written before everybody is known to have let go. What policy lets us stop or end is a step; while
there are such steps, or questions, nothing of the claim is moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hostlerd.decide import life
from hostlerd.decide.leaving import leave, refuse_unload
from hostlerd.model.devices import Function
from hostlerd.model.domains import Definition
from hostlerd.model.holders import KERNEL, Container, Grip, Holder
from hostlerd.model.ledger import StoppedRecord
from hostlerd.model.observed import RUNS, Observed
from hostlerd.model.plan import Refusal, Step, Stop, Terminate
from hostlerd.model.questions import Question
from hostlerd.model.settings import DevicePolicy, Match, Settings

LASTING = frozenset(
    {
        "dbus.service", "dbus-broker.service", "hostlerd.service", "init.scope", "libvirtd.service",
        "polkit.service", "systemd-journald.service", "systemd-logind.service", "systemd-udevd.service",
        "virtqemud.service",
    }
)  # fmt: skip
"""Units that are never stopped for a device; logind lets go of a card when the session that it holds it for ends."""
_PART_OF_THE_HOST = "make it let go: it is part of the host, and is never ended for a device"
DISPLAY_MANAGER = "display-manager.service"
NO_POLICY = DevicePolicy(name="", match=Match())


@dataclass(slots=True, kw_only=True)
class Gate:
    """`policies`: of each function that the claim needs."""

    observed: Observed
    domain: Definition
    policies: Mapping[str, DevicePolicy]
    refusals: list[Refusal] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def refuse(self, function: Function, reason: str, remedy: str, *, in_use: bool = True) -> None:
        self.refusals.append(
            Refusal(
                object=function.address, reason=reason, remedy=remedy, claim=self.domain.uuid, in_use=in_use
            )
        )

    def stop_unit(self, unit: str, function: Function, why: str) -> bool:
        """False if it is not running. What we stopped for this domain stays stopped, or had its chance."""
        if unit not in self.observed.units:
            self.questions.append(Question(kind="unit", object=unit))
            return True
        running = self.observed.units[unit] in RUNS
        if running:
            self._stop(unit, function, why, None)
        return running

    def stop_container(self, container: Container, function: Function, why: str) -> None:
        self._stop(container.id, function, why, container)

    def was_stopped(self, name: str) -> bool:
        record = self.observed.ledger.stopped.get(name)
        return record is not None and record.claim == self.domain.uuid

    def _stop(self, name: str, function: Function, why: str, container: Container | None) -> None:
        self.steps.append(
            Stop(
                object=name,
                before="running",
                after="stopped",
                why=why,
                claim=self.domain.uuid,
                limit=self.policies[function.address].holder_limit,
                container=container,
                record=StoppedRecord(
                    name=name,
                    device=function.address,
                    claim=self.domain.uuid,
                    engine=container.engine if container is not None else "",
                    owner=container.owner if container is not None else None,
                ),
            )
        )


def blocking(holders: Iterable[Holder]) -> tuple[Holder, ...]:
    """Those a driver's remove() may wait for."""
    return tuple(holder for holder in holders if holder.blocks)


def on_a_driver(function: Function) -> bool:
    """The host's driver has it, and will have to let go."""
    return function.readable and function.driver is not None and not function.on_vfio


def must_let_go(function: Function) -> bool:
    """Somebody has it: its driver, or perhaps, of a display without one, the boot framebuffer."""
    return on_a_driver(function) or (
        function.is_display and function.readable and function.driver is None and not function.on_vfio
    )


def decide_gate(
    observed: Observed, settings: Settings, domain: Definition, take: Mapping[str, str], asked: Iterable[str]
) -> Gate:
    """`take`: all that the claim needs, by address; `asked`: those of them that the domain itself names.

    A companion or member without a section of its own in the policy follows the device it goes with.
    """
    leading = next((p for a in asked if a in take and (p := settings.device(observed.functions[a]))), None)
    policies = {a: settings.device(observed.functions[a]) or leading or NO_POLICY for a in take}
    gate = Gate(observed=observed, domain=domain, policies=policies)
    leaving = [observed.functions[a] for a in take if must_let_go(observed.functions[a])]
    for function in leaving:
        policy = policies[function.address]
        why = f"policy {policy.name!r} stops it before {function.address} goes to {domain.name}"
        for unit in policy.units:
            if not gate.was_stopped(unit):
                gate.stop_unit(unit, function, why)
    if not gate.steps and not gate.questions:  # who has it open is asked when these have gone
        gate.questions += [
            Question(kind="holders", object=f.address) for f in leaving if f.address not in observed.holders
        ]
    if gate.steps or gate.questions:
        return _once(gate)
    for function in leaving:
        _stuck_screen(gate, function)
        # One word about each, whatever number of nodes it has open.
        holders = {
            holder.pid or holder.command: holder for holder in blocking(observed.holders[function.address])
        }
        for holder in holders.values():
            _clear(gate, function, holder)
    if not gate.steps and not gate.questions and not gate.refusals:
        _kernel_clients(gate, leaving, {f.address: settings.device(f) for f in leaving})
    if not gate.steps and not gate.questions and not gate.refusals:
        _dead(gate, take)
    return _once(gate)


def _once(gate: Gate) -> Gate:
    """What several functions need is done for the first of them."""
    steps: dict[tuple[str, str], Step] = {}
    for step in gate.steps:
        steps.setdefault((step.kind, step.object), step)
    gate.steps, gate.questions = list(steps.values()), list(dict.fromkeys(gate.questions))
    return gate


def _dead(gate: Gate, take: Iterable[str]) -> None:
    """A card that answers nothing is no use to a guest, and its drivers may hang."""
    observed, uuid = gate.observed, gate.domain.uuid
    free = [a for a in take if observed.functions[a].readable]
    gate.questions += [Question(kind="alive", object=a) for a in free if a not in observed.alive]
    claim = observed.ledger.claims.get(uuid)
    attempt = str(claim.since) if claim is not None else ""
    for address in free:
        function, policy = observed.functions[address], gate.policies[address]
        if observed.alive.get(address) is not False or gate.steps:
            continue
        others = life.behind_the_same_bridge(observed, function, free)
        if not life.may_be_tried(observed, address, policy, attempt):
            gate.refuse(function, life.dead(address), life.REMEDY, in_use=False)
        elif policy.recover == "reset" and others:
            reason = f"{life.dead(address)}, and a reset of its bus would hit {', '.join(others)}, too"
            gate.refuse(function, reason, life.REMEDY, in_use=False)
        else:
            gate.steps += life.recover(function, policy.recover, free, attempt=attempt, claim=uuid)


def _stuck_screen(gate: Gate, function: Function) -> None:
    """A boot framebuffer that hangs on its way off the card still has its memory."""
    ledger = gate.observed.ledger
    for record in ledger.framebuffers.values():
        trouble = ledger.troubles.get(record.device)
        leaving = any(step.object == record.device for step in ledger.outstanding.values())
        if record.card == function.address and (leaving or (trouble is not None and trouble.wedged)):
            gate.refuse(
                function,
                f"{function.address} is in use: the boot framebuffer {record.device} does not let go of it",
                trouble.remedy if trouble is not None else "try again when `hostler status` is clear",
            )


def _clear(gate: Gate, function: Function, holder: Holder) -> None:
    """Stop or end it, as policy says, or say that it is in the way."""
    policy = gate.policies[function.address]
    why = f"{gate.domain.name} is to have {function.address}, and {holder.told} has {holder.node} open"
    if holder.pid == KERNEL:
        gate.refuse(
            function, f"{function.address} is in use: {holder.command} ({holder.node})", "free it first"
        )
    elif policy.holders == "terminate" and holder.unit not in LASTING:
        gate.steps.append(
            Terminate(
                object=f"process {holder.pid}",
                before=holder.command,
                after=None,
                why=why,
                claim=gate.domain.uuid,
                pid=holder.pid,
                start=holder.start,
                limit=policy.holder_limit,
            )
        )
    elif policy.holders == "stop":
        _clear_by_stopping(gate, function, holder, why)
    elif holder.unit in LASTING:
        gate.refuse(function, _open(function, holder), _PART_OF_THE_HOST)
    else:
        gate.refuse(
            function,
            _open(function, holder),
            f'end it, or set holders = "stop" or "terminate" in the [[device]] section of {function.address}',
        )


def _clear_by_stopping(gate: Gate, function: Function, holder: Holder, why: str) -> None:
    target = _target(holder, function)
    again = target is not None and gate.was_stopped(target.id if isinstance(target, Container) else target)
    if again:
        gate.refuse(
            function, f"{_open(function, holder)}, although it was stopped", "see what started it again"
        )
    elif isinstance(target, Container):
        gate.stop_container(target, function, why)
    elif target is None or not gate.stop_unit(target, function, why):
        gate.refuse(
            function,
            f"{_open(function, holder)}, and that is no unit or container that could be stopped",
            _PART_OF_THE_HOST
            if holder.unit in LASTING
            else 'end it, or set holders = "terminate" for the device',
        )


def _target(holder: Holder, function: Function) -> str | Container | None:
    """The unit or container that is stopped for this holder.

    A program of somebody's session is no unit of the system. The sessions on a screen end with the display manager,
    which is what the card of a screen is freed by; any other such program has to be ended by its user.
    """
    container = holder.in_container
    own_scope = holder.unit is None or holder.unit.endswith(".scope")
    if container is not None and container.engine in ("docker", "podman") and own_scope:
        return container
    if holder.manager is not None or holder.session is not None or holder.unit in LASTING:
        return DISPLAY_MANAGER if function.is_display else None
    return holder.unit


def _open(function: Function, holder: Holder) -> str:
    verb = "mapped" if holder.how == "map" else "open"
    return f"{function.address} is in use: {holder.told} has {holder.node} {verb}"


def _kernel_clients(gate: Gate, leaving: list[Function], own: Mapping[str, DevicePolicy | None]) -> None:
    """What no process shows: a driver's module that something in the kernel holds, a device that others are built on.

    A module counts only where all that it drives is leaving, since otherwise the rest may be what uses it, and only
    where nobody at all has one of its devices open, since each open file is a reference, too.

    `own`: how a driver is left is a matter of its own device's policy, and no companion follows in that.
    """
    observed = gate.observed
    for function in leaving:
        policy = own[function.address]
        grip = observed.grips.get(function.address, Grip(address=function.address))
        for member in grip.members:
            reason = f"{function.address} is in use: {member.replace(' of ', ' is part of ')}"
            gate.refuse(function, reason, "take it out of there first")
        if leave(function, policy) == "unload":
            gate.refusals += refuse_unload(observed, gate.domain.uuid, function, leaving)
            continue
        module = grip.modules[-1] if grip.modules else None
        alike = [f for f in observed.functions.values() if f.driver == function.driver]
        if (
            module is not None
            and module.references > 0
            and function.is_display
            and (policy is None or policy.leave == "auto")
            and not grip.consoles
            and all(f in leaving for f in alike)
            and not any(observed.holders.get(f.address) for f in alike)
        ):
            gate.refuse(
                function,
                f"{function.address} is in use: something in the kernel holds its module {module.name}, "
                f"{module.references} times, and no process explains it",
                'find it with `lsmod` and the kernel\'s log; leave = "unbind" in its policy does not ask',
            )

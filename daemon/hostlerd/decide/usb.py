"""Which USB devices go to which running domain, and which of those that hostler attached are to be taken back.

Pure. One writer a device: what any domain has, or is about to start with, is not taken, and whoever comes later is told
who has it. Only what carries our mark is ever taken from a domain (model/usb), and not even that where the mark is in
the domain's own definition, as a copy of a running domain's XML leaves it there.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.domains import Definition, Running
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AttachUsb, DetachUsb, Refusal
from hostlerd.model.settings import Settings, UsbPolicy
from hostlerd.model.usb import USBFS, UsbDevice

TAKES = frozenset({"running", "blocked", "paused"})
"""States in which a domain is given devices: in others it is on its way out, or asleep."""


def decide_usb(observed: Observed, settings: Settings) -> tuple[list[AttachUsb | DetachUsb], list[Refusal]]:
    """Steps, what is unplugged first; and what is refused, starts of domains among it."""
    if not observed.snapshot.known:
        return [], []
    steps: list[AttachUsb | DetachUsb] = []
    for having in observed.snapshot.running:
        for device in _ours(having):
            why = _over(observed, settings, having, device)
            if why is not None and not observed.ledger.untouchable(device.label):
                steps.append(
                    DetachUsb(
                        object=device.label,
                        before=having.name,
                        after="host" if _present(observed, device) is not None else None,
                        why=why,
                        uuid=having.uuid,
                        device=device,
                    )
                )
    refusals = list(_starts(observed))
    starting = {claim.uuid for claim in observed.ledger.claims.values() if not claim.prepared}
    for device in observed.usb.values():
        rule = settings.usb_rule(device)
        domain = None if rule is None else _target(observed, rule)
        if rule is None or domain is None or domain.uuid in starting:
            continue
        holders = list(_holders(observed, device))
        if any(holder.uuid == domain.uuid for holder in holders):
            continue
        if holders:
            refusals.append(_belongs(device, holders[0], domain.name))
        elif not device.bound or observed.ledger.untouchable(device.label):
            continue  # it is being set up, or was given away as a whole; when that changes there is an event
        elif USBFS in device.drivers:
            refusals.append(_open(device, domain.name))
        else:
            steps.append(
                AttachUsb(
                    object=device.label,
                    before="host",
                    after=domain.name,
                    why=f"{device.ids} is {domain.name}'s by the rule {rule.name!r}",
                    uuid=domain.uuid,
                    device=device,
                )
            )
    return steps, refusals


def _target(observed: Observed, rule: UsbPolicy) -> Running | None:
    """The domain, if it is in a state to be given a device."""
    fitting = (d for d in observed.snapshot.running if rule.domain in (d.uuid, d.name))
    return next((domain for domain in fitting if domain.state in TAKES), None)


def _ours(domain: Running) -> Iterator[UsbDevice]:
    """What we attached to it."""
    own = {source.mark for source in domain.definition.usb_sources} if domain.definition else frozenset[str]()
    for source in domain.live.usb_sources:
        device = source.as_attached()
        if device is not None and source.mark not in own:
            yield device


def _present(observed: Observed, device: UsbDevice) -> UsbDevice | None:
    """The device, if it is plugged in and has not been out since."""
    now = observed.usb.get(device.port)
    same = now is not None and (now.bus, now.number, now.ids) == (device.bus, device.number, device.ids)
    return now if same else None


def _over(observed: Observed, settings: Settings, domain: Running, device: UsbDevice) -> str | None:
    """Why the domain is not to have it any more."""
    now = _present(observed, device)
    if now is None:
        return "it is not plugged in any more"
    rule = settings.usb_rule(now)
    if rule is None or rule.domain not in (domain.uuid, domain.name):
        return f"no rule gives it to {domain.name} any more"
    for other in observed.snapshot.running:
        if other.uuid != domain.uuid and any(source.names(now) for source in other.live.usb_sources):
            return f"it belongs to domain {other.name}"
    return None


def _holders(observed: Observed, device: UsbDevice) -> Iterator[Definition]:
    """Domains that have it, or are about to start with it, the first one first."""
    running = {domain.uuid: domain.live for domain in observed.snapshot.running}
    claims = sorted(observed.ledger.claims.values(), key=lambda claim: claim.since)
    starting = [claim.definition for claim in claims if claim.uuid not in running]
    for domain in (*running.values(), *starting):
        if any(source.names(device) for source in domain.usb_sources):
            yield domain


def _starts(observed: Observed) -> Iterator[Refusal]:
    """Domains that are about to start with a device that another one has. libvirt would refuse them, later."""
    for claim in sorted(observed.ledger.claims.values(), key=lambda claim: claim.since):
        if claim.prepared:
            continue
        for source in claim.definition.usb_sources:
            named = [device for device in observed.usb.values() if source.names(device)]
            for device in named if len(named) == 1 else ():
                for other in observed.snapshot.running:
                    if other.uuid != claim.uuid and any(s.names(device) for s in other.live.usb_sources):
                        yield _belongs(device, other.live, claim.name, claim=claim.uuid)


def _belongs(device: UsbDevice, holder: Definition, name: str, claim: str | None = None) -> Refusal:
    return Refusal(
        object=device.label,
        reason=f"{device.label} ({device.ids}) belongs to domain {holder.name}, so {name} does not get it",
        remedy=f"detach it from {holder.name}, or stop that",
        claim=claim,
        claimed_by=holder.name,
    )


def _open(device: UsbDevice, name: str) -> Refusal:
    return Refusal(
        object=device.label,
        reason=f"a program of the host has {device.label} ({device.ids}) open, so {name} does not get it",
        remedy=f"end it: fuser -v /dev/bus/usb/{device.bus:03}/{device.number:03}",
    )

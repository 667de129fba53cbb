"""What is where it belongs without our doing, and counts as ours from now on: so that it can go back some day.

Pure. Our udev rule wins the race against the first pass; libvirt moves a device that it manages from one VFIO driver to
another. Either is a step that writes what is there already: what counts is its record.
"""

from __future__ import annotations

from dataclasses import replace

from hostlerd.decide.ownership import VFIO, Want
from hostlerd.model.devices import Function
from hostlerd.model.identity import identity
from hostlerd.model.ledger import DeviceRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Override


def took_by_rule(observed: Observed, function: Function, want: Want) -> bool:
    """Our udev rule won the race: it is where it belongs before we ever looked, and nothing says that it is ours."""
    return function.on_vfio and aimed_by_rule(observed, function, want)


def aimed_by_rule(observed: Observed, function: Function, want: Want) -> bool:
    """Its override is our rule's, also where its driver won the race and is busy: that has to go again some day."""
    return (
        function.address not in observed.ledger.devices
        and want.claim is None
        and want.place == "vfio"
        and function.override is not None
        and bool(observed.rule)
        and f'driver_override}}="{function.override}"' in str(observed.rule)
    )


def adopt(function: Function, want: Want) -> Override:
    """Writes what is there already; what counts is the record, so that the card can go back some day."""
    theirs = not function.on_vfio
    record = DeviceRecord(
        address=function.address,
        driver=function.driver if theirs else None,
        override=None,
        any_driver=True,
        module=(function.module or "") if theirs else "",
        ours=function.override or VFIO,
        identity=identity(function),
    )
    return noted(function, want, record)


def rebound(observed: Observed, function: Function, want: Want) -> DeviceRecord | None:
    """Since 10.0 libvirt puts a device that it manages on the VFIO driver that it thinks best, whatever it was on, and
    does not take it from there again: for the way back that counts as ours.
    """
    record = observed.ledger.devices.get(function.address)
    if record is None or not (want.domain or want.claim) or not function.on_vfio:
        return None
    if function.override is None or function.override != function.driver:
        return None
    if function.override in record.ours.split():
        return None
    return replace(record, ours=f"{record.ours} {function.override}")


def noted(function: Function, want: Want, record: DeviceRecord) -> Override:
    """Writes what is there already, for the record's sake."""
    return Override(
        object=function.address,
        before=function.override,
        after=function.override,
        why=want.why,
        claim=want.claim,
        record=record,
    )

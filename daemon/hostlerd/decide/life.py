"""A card that answers nothing any more: found out before a domain gets it and on its way home, and woken by consent.

Pure. Every read of a dead function's configuration is all ones (lspci: rev ff). A reset of its bus, or removing it and
looking for it anew, may bring it back and is tried once a time; then only power helps. Both touch nothing but functions
that are in nobody's hands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hostlerd.model.devices import Function
from hostlerd.model.ledger import RecoveryRecord, RemovedRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import CheckAlive, Refusal, RemoveFunction, Rescan, ResetCard, Step
from hostlerd.model.settings import DevicePolicy, Settings

HOME = "home"
"""The attempt on the way home; of a domain's start it is the claim's own number."""
REMEDY = (
    "switch the host off and on again, as a restart alone may leave it without power; recover = "
    '"reset" or "rescan" in its [[device]] section lets hostler try something before'
)


def dead(address: str) -> str:
    return f"{address} does not answer any more: all of its configuration reads as ones"


def silent(observed: Observed, held: Mapping[str, str]) -> list[Refusal]:
    """`held`: what domains have, to their names. Such a card is only looked at after the host slept."""
    return [
        Refusal(
            object=address,
            reason=f"{dead(address)} since the host slept, and {name} has it",
            remedy=f"stop {name}; what policy lets be tried is tried on the card's way home",
        )
        for address, name in sorted(held.items())
        if observed.alive.get(address) is False and address in observed.functions
    ]


def may_be_tried(observed: Observed, address: str, policy: DevicePolicy | None, attempt: str) -> bool:
    records = observed.ledger.recoveries.values()
    record = next((record for record in records if record.address == address), None)
    return policy is not None and policy.recover != "no" and (record is None or record.attempt != attempt)


def policy_of(observed: Observed, settings: Settings, function: Function) -> DevicePolicy | None:
    """Its own, else that of the slot."""
    slot = [f for f in observed.functions.values() if f.slot == function.slot]
    return next((p for f in (function, *slot) if (p := settings.device(f)) is not None), None)


def check(
    observed: Observed,
    function: Function,
    policy: DevicePolicy | None,
    *,
    hopeless: bool = False,
    others: Sequence[str] = (),
) -> CheckAlive:
    """`hopeless`: nothing more will be tried, perhaps because of `others` on its bus."""
    return CheckAlive(
        object=function.address,
        before=None,
        after="alive",
        why="a driver that is given a dead card may hang",
        reason=dead(function.address) + (f"; a reset would hit {', '.join(others)}, too" if others else ""),
        remedy=f"{REMEDY}; then `hostler retry {function.address}`",
        recoverable=not hopeless and may_be_tried(observed, function.address, policy, HOME),
        together=tuple(f.address for f in observed.functions.values() if f.slot == function.slot),
    )


def behind_the_same_bridge(observed: Observed, function: Function, free: Iterable[str]) -> list[str]:
    """Functions that a reset of the bus would hit, too, although somebody uses them."""
    above = (function.path or "").rpartition("/")[0]
    ours = {*free, function.address}
    return [
        f.address
        for f in observed.functions.values()
        if f.address not in ours and f.driver is not None and above and (f.path or "").startswith(f"{above}/")
    ]


def recover(
    function: Function, how: str, free: Iterable[str], *, attempt: str, claim: str | None = None
) -> list[Step]:
    """`free`: functions that nobody has open and that may be removed."""
    record = RecoveryRecord(address=function.address, attempt=attempt)
    why = f"{function.address} does not answer any more, and policy lets it be tried"
    if how == "reset":
        return [
            ResetCard(
                object=function.address, before="dead", after="reset", why=why, claim=claim, recovery=record
            )
        ]
    slot = [a for a in free if a.startswith(f"{function.slot}.")]
    return [
        *(
            RemoveFunction(
                object=address,
                before="there",
                after=None,
                why=why,
                claim=claim,
                record=RemovedRecord(address=address),
            )
            for address in sorted({*slot, function.address})
        ),
        Rescan(
            object=function.address,
            before=None,
            after="there",
            why=why,
            claim=claim,
            functions=tuple(sorted({*slot, function.address})),
            recovery=record,
        ),
    ]


def decide_removed(observed: Observed) -> tuple[list[Step], list[str]]:
    """What was removed and not looked for again, as after a crash; and the records that can be closed."""
    ledger = observed.ledger
    gone = [
        r.address
        for r in ledger.removed.values()
        if r.address not in observed.functions and not ledger.untouchable(r.address)
    ]
    settled = [key for key, r in ledger.removed.items() if r.address in observed.functions]
    attempts = {str(claim.since) for claim in ledger.claims.values()}
    removed = {r.address for r in ledger.removed.values()}
    for key, record in ledger.recoveries.items():
        home = record.address not in ledger.devices
        over = home if record.attempt == HOME else record.attempt not in attempts
        if over and record.address not in removed:
            settled.append(key)
    if not gone:
        return [], settled
    step = Rescan(
        object=gone[0],
        before=None,
        after="there",
        why="it was removed to be found anew",
        functions=tuple(gone),
    )
    return [step], settled

"""Kernel files with one value: set while somebody wishes it, put back when nobody does and the value is still ours.

Pure. What the files are and who wishes what is not known here (decide/wishes). Of a device that must not be touched
nothing is written or put back until it may be: power/control takes the device's lock (control_store).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hostlerd.model.devices import DEVICES
from hostlerd.model.ledger import AttributeRecord
from hostlerd.model.observed import Observed
from hostlerd.model.partition import KIND, asked
from hostlerd.model.plan import SetAttribute, SetPartition
from hostlerd.model.questions import Question
from hostlerd.model.tuning import REFUSED

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`value` None: keep it as it is now, put nothing back yet. With a `claim` the domain does not start without it.

    `identity`: as AttributeRecord has it. `tolerated`: as SetAttribute has it.
    """

    path: str
    value: str | None
    why: str
    claim: str | None = None
    identity: str = ""
    tolerated: tuple[int, ...] = ()
    before: str | None = None
    """What to record of a file that has the value that is wished already; None: nothing."""


@dataclass(slots=True, kw_only=True)
class Attributes:
    """`steps`: what is wished; `returns`: what is put back. `settled`: paths whose record can be closed."""

    steps: list[SetAttribute | SetPartition] = field(default_factory=list)
    returns: list[SetAttribute | SetPartition] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)


def decide_attributes(
    observed: Observed, wishes: Iterable[Wish], identities: Mapping[str, str] = NOTHING
) -> Attributes:
    """Of several wishes for one file the first counts. What was set last is put back first.

    `identities`: what a file is about now, of those where that may change.
    """
    found = Attributes()
    wished: dict[str, Wish] = {}
    for wish in wishes:
        wished.setdefault(wish.path, wish)
    for path in dict.fromkeys((*wished, *observed.ledger.attributes)):
        if observed.untouchable(path) or observed.untouchable(_device(path)):
            continue
        if path not in observed.attributes:
            found.questions.append(Question(kind="attribute", object=path))
        elif path in wished:
            _set(found, observed, wished[path])
        else:
            _put_back(found, observed, observed.ledger.attributes[path], identities.get(path, ""))
    found.returns.reverse()
    return found


def _device(path: str) -> str:
    """The PCI function whose file it is, or nothing of the kind."""
    return path.removeprefix(f"{DEVICES}/").partition("/")[0]


def _set(found: Attributes, observed: Observed, wish: Wish) -> None:
    now = observed.attributes[wish.path]
    record = observed.ledger.attributes.get(wish.path)
    if record is not None and record.identity != wish.identity:
        record = None
    noted = wish.before if record is None and now == wish.value else None
    if (
        now is None
        or wish.value is None
        or wish.path in observed.immovable
        or (now == wish.value and noted is None)
    ):
        return
    would = now if noted is None else noted
    before, ours = (record.before, record.ours) if record is not None else (_asked(wish.path, would), ())
    record = AttributeRecord(
        path=wish.path,
        before=before,
        ours=tuple(dict.fromkeys((*ours, wish.value))),
        identity=wish.identity,
    )
    if _is_partition(wish.path):
        found.steps.append(
            SetPartition(object=wish.path, before=now, after=wish.value, why=wish.why, record=record)
        )
        return
    found.steps.append(
        SetAttribute(
            object=wish.path,
            before=now,
            after=wish.value,
            why=wish.why,
            claim=wish.claim,
            record=record,
            tolerated=wish.tolerated,
        )
    )


def _put_back(found: Attributes, observed: Observed, record: AttributeRecord, identity: str) -> None:
    now = observed.attributes[record.path]
    if (
        now is None
        or now == record.before
        or _asked(record.path, now) not in record.ours
        or identity != record.identity
        or f"{record.path} back" in observed.immovable
    ):
        found.settled.append(record.path)  # gone, as it was, somebody else's by now, or it cannot be changed
        return
    why = "nobody needs it any more"
    if _is_partition(record.path):
        found.returns.append(SetPartition(object=record.path, before=now, after=record.before, why=why))
        return
    tolerated = REFUSED if record.identity else ()
    found.returns.append(
        SetAttribute(object=record.path, before=now, after=record.before, why=why, tolerated=tolerated)
    )


def _asked(path: str, text: str) -> str:
    """What was written. A partition's file says more where that cannot be had."""
    return asked(text) if _is_partition(path) else text


def _is_partition(path: str) -> bool:
    return path.endswith(f"/{KIND}")

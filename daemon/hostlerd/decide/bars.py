"""Resizable BARs: as large as policy wants them while VFIO has the card, as they were when it is home.

Pure. A BAR is resized while no driver has the card, between its unbind and its probe (Documentation/ABI/testing/
sysfs-bus-pci, resourceN_resize; Linux 6.1). What the kernel refuses (no room behind the bridge, VFs, a firmware that
wants its own layout) is said, and the domain starts with the size that there is.
"""

from __future__ import annotations

from hostlerd.decide.ownership import Want
from hostlerd.model.devices import Function
from hostlerd.model.ledger import BarRecord
from hostlerd.model.memory import Bar, size_of
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal, ResizeBar
from hostlerd.model.questions import Question
from hostlerd.model.settings import DevicePolicy

DEVICES = "/sys/bus/pci/devices"


def bar_path(address: str, index: int) -> str:
    return f"{DEVICES}/{address}/resource{index}_resize"


def told(mebibytes: int) -> str:
    return f"{mebibytes >> 10} GiB" if mebibytes >= 1024 else f"{mebibytes} MiB"


def grow(
    observed: Observed, function: Function, want: Want, policy: DevicePolicy | None
) -> tuple[list[ResizeBar], list[Question]]:
    """Before VFIO has it."""
    if policy is None or policy.bar == "keep":
        return [], []
    if function.address not in observed.bars:
        return [], [Question(kind="bars", object=function.address)]
    steps: list[ResizeBar] = []
    for bar in observed.bars[function.address]:
        size = _wanted(policy, bar)
        path = bar_path(function.address, bar.index)
        if size in (None, bar.size) or not bar.can_be(size or 0) or observed.ledger.untouchable(path):
            continue
        record = observed.ledger.bars.get(path)
        before, ours = (record.before, record.ours) if record is not None else (bar.size, ())
        steps.append(
            _resize(
                function.address,
                bar.index,
                bar.size,
                size or 0,
                f"policy {policy.name!r}; {want.why}",
                want.claim,
                BarRecord(
                    path=path,
                    address=function.address,
                    index=bar.index,
                    before=before,
                    ours=tuple(dict.fromkeys((*ours, size or 0))),
                ),
            )
        )
    return steps, []


def refuse_bars(observed: Observed, address: str, policy: DevicePolicy) -> list[Refusal]:
    """Sizes that a BAR cannot have, of cards that are about to be moved."""
    if address not in observed.bars or isinstance(policy.bar, str):
        return []
    bars = {bar.index: bar for bar in observed.bars[address]}
    found: list[Refusal] = []
    for index, size in policy.bar.items():
        bar = bars.get(index)
        if bar is not None and bar.can_be(size):
            continue
        sizes = ", ".join(told(1 << n) for n in range(64) if bar is not None and bar.sizes >> n & 1)
        found.append(
            Refusal(
                object=address,
                reason=f"BAR {index} of {address} cannot be {told(size)}: "
                + (f"it can be {sizes}" if sizes else "it cannot be resized"),
                remedy=f"change bar in policy {policy.name!r}",
            )
        )
    return found


def shrink(observed: Observed, function: Function) -> tuple[list[ResizeBar], list[Question], list[str]]:
    """On the way home; the last are records that can be closed."""
    steps: list[ResizeBar] = []
    settled: list[str] = []
    resource = f"{DEVICES}/{function.address}/resource"
    for path, record in observed.ledger.bars.items():
        if record.address != function.address or observed.ledger.untouchable(path):
            continue
        if resource not in observed.attributes:
            return [], [Question(kind="attribute", object=resource)], []
        now = size_of(observed.attributes[resource], record.index)
        if now is None or now == record.before or now not in record.ours:
            settled.append(path)
        else:
            why = "nobody claims it any more"
            steps.append(_resize(function.address, record.index, now, record.before, why, None, None))
    return steps, [], settled


def forgotten(observed: Observed) -> list[str]:
    """Records of cards that are gone."""
    return [path for path, r in observed.ledger.bars.items() if r.address not in observed.functions]


def _wanted(policy: DevicePolicy, bar: Bar) -> int | None:
    return bar.largest if isinstance(policy.bar, str) else policy.bar.get(bar.index)


def _resize(
    address: str, index: int, now: int, size: int, why: str, claim: str | None, record: BarRecord | None
) -> ResizeBar:
    return ResizeBar(
        object=bar_path(address, index),
        before=told(now),
        after=told(size),
        why=why,
        claim=claim,
        optional=True,
        address=address,
        index=index,
        size=size,
        record=record,
    )

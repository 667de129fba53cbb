"""Resizable BARs: as large as policy wants them while VFIO has the card, as they were when it is home.

Pure. A BAR is resized while no driver has the card, between its unbind and its probe (Documentation/ABI/testing/
sysfs-bus-pci, resourceN_resize; Linux 6.1). What the kernel refuses (no room behind the bridge, VFs, a firmware that
wants its own layout) is said, and the domain starts with the size that there is.
"""

from __future__ import annotations

from dataclasses import replace

from hostlerd.decide.ownership import Want
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.ledger import BarRecord
from hostlerd.model.memory import size_of
from hostlerd.model.observed import Observed
from hostlerd.model.plan import ResizeBar
from hostlerd.model.questions import Question
from hostlerd.model.settings import DevicePolicy


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
    bars = {bar.index: bar for bar in observed.bars[function.address]}
    wanted = {i: bar.largest for i, bar in bars.items()} if isinstance(policy.bar, str) else policy.bar
    steps: list[ResizeBar] = []
    for index, size in wanted.items():
        path = bar_path(function.address, index)
        now = bars[index].size if index in bars else 0
        if size == now or observed.ledger.untouchable(path):
            continue
        record = observed.ledger.bars.get(path)
        before, ours = (record.before, record.ours) if record is not None else (now, ())
        record = BarRecord(
            path=path,
            address=function.address,
            index=index,
            before=before,
            ours=tuple(dict.fromkeys((*ours, size))),
        )
        why = f"policy {policy.name!r}; {want.why}"
        step = _resize(record, now=now, size=size, why=why, claim=want.claim)
        # What it cannot be is tried, too, so that it is said; nothing will have to be put back then.
        possible = index in bars and bars[index].can_be(size)
        steps.append(step if possible else replace(step, record=None))
    return steps, []


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
            back = _resize(record, now=now, size=record.before, why="nobody claims it any more")
            steps.append(replace(back, record=None))
    return steps, [], settled


def forgotten(observed: Observed) -> list[str]:
    """Records of cards that are gone."""
    return [path for path, r in observed.ledger.bars.items() if r.address not in observed.functions]


def _resize(record: BarRecord, *, now: int, size: int, why: str, claim: str | None = None) -> ResizeBar:
    return ResizeBar(
        object=record.path,
        before=told(now),
        after=told(size),
        why=why,
        claim=claim,
        optional=True,
        address=record.address,
        index=record.index,
        size=size,
        record=record,
    )

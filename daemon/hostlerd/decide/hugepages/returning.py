"""What was added for a domain that is gone is taken away again.

Pages that are free go at once. Those that somebody else is using by then become surplus by the same write: the kernel
takes them away itself when they are let go of (set_max_huge_pages, free_huge_page), with nothing left for us to wait
for. But free pages go first, whoever they were meant for: where some are promised to a domain that has not taken them
yet, only the others go now, and the rest when that has started or was given up.

Never below what was there without us, or what is there now if somebody took some away.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hostlerd.decide.hugepages.counting import Counted
from hostlerd.decide.hugepages.stock import Stock
from hostlerd.model.ledger import HugepagesRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import SetHugepages


@dataclass(slots=True, kw_only=True)
class Returns:
    steps: list[SetHugepages] = field(default_factory=list[SetHugepages])
    settled: list[str] = field(default_factory=list[str])


def give_back(observed: Observed, stock: Stock, counted: Counted) -> Returns:
    found = Returns()
    touched: set[str] = set()
    for record in counted.records.values():
        if record.uuid in observed.ledger.claims or observed.untouchable(record.path):
            continue
        pool = stock.pages.at(record.path)
        if pool is None or not record.added:
            found.settled.append(record.key)  # nothing of it is left, or of the node
            continue
        if pool.path in touched:
            continue
        ours = min(record.added, max(0, pool.lasting - record.base))
        promised = stock.promised[pool.path]
        pages = min(ours, max(0, pool.free - promised)) if promised else ours
        if not ours:
            found.settled.append(record.key)
        elif pages:
            touched.add(pool.path)
            stock.add(pool.page_kib, pool.node, -min(pages, pool.free))
            found.steps.append(_step(record, pool.lasting, pool.lasting - pages))
    return found


def _step(record: HugepagesRecord, now: int, after: int) -> SetHugepages:
    return SetHugepages(
        object=record.path,
        before=str(now),
        after=str(after),
        why=f"{now - after} of them were added for {record.name}, which is gone",
        record=replace(record, before=now, target=after),
    )

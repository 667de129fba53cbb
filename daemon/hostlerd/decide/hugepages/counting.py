"""What came of a write to a pool: told from the pool's count now, whether we lived to see the write's end or not.

A record with a write under way says from how many lasting pages to how many. What of this way was gone is what the
pool's count says, within these two: the kernel may have given fewer, the write may have been cut short by a kill, or
never made. Whoever changes the pool by hand between our write and this look is taken for a part of it; a moment as a
rule. While the write may still go on (it is outstanding) nothing is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hostlerd.model.hugepages import Hugepages
from hostlerd.model.ledger import HugepagesRecord
from hostlerd.model.observed import Observed


@dataclass(slots=True, kw_only=True)
class Counted:
    """`records`: all, by key, as they are known to be now. `news`: those that differ from the journal's."""

    records: Mapping[str, HugepagesRecord]
    news: list[HugepagesRecord] = field(default_factory=list[HugepagesRecord])


def count(observed: Observed, pages: Hugepages) -> Counted:
    news: list[HugepagesRecord] = []
    for record in observed.ledger.hugepages.values():
        pool = pages.at(record.path)
        if not record.is_open or pool is None or observed.untouchable(record.path):
            continue
        low, high = sorted((record.before, record.target))
        change = min(max(pool.lasting, low), high) - record.before
        news.append(replace(record, added=max(0, record.added + change), before=0, target=0))
    return Counted(
        records={**observed.ledger.hugepages, **{record.key: record for record in news}}, news=news
    )

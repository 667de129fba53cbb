"""Pages for a domain that is about to start: what is missing is added; where the kernel gives too few, once more after
it was asked to make room, if policy lets it; then the start is refused, and what was added goes back like all else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hostlerd.decide.hugepages.needs import Need
from hostlerd.decide.hugepages.stock import Stock
from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.hugepages import COMPACT, DROP_CACHES, pages_text, size_text
from hostlerd.model.ledger import Claim, HugepagesRecord, hugepages_key
from hostlerd.model.observed import Observed
from hostlerd.model.plan import MakeRoom, Refusal, SetHugepages, Step
from hostlerd.model.settings import HugepagesPolicy

REMEDY = (
    "start it earlier after a boot, reserve them on the kernel command line (hugepagesz={size} hugepages=...), "
    "give it less memory or smaller pages{room}"
)
ROOM = ", or let room be made: hugepages = {{ compact = true, drop_caches = true }} in {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """`nodes` are asked for what is not free on `enough`; `room`: after it was made."""

    nodes: Sequence[int]
    enough: frozenset[int]
    room: bool = False


@dataclass(slots=True, kw_only=True)
class Reserving:
    """`touched`: pools that are changed in this round already. `waiting`: claims that need one of these."""

    observed: Observed
    stock: Stock
    records: Mapping[str, HugepagesRecord]
    touched: set[str]
    steps: list[Step] = field(default_factory=list[Step])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    waiting: set[str] = field(default_factory=set[str])

    def reserve(self, claim: Claim, needs: Iterable[Need], policy: HugepagesPolicy) -> None:
        """All its needs together: each pool is written once."""
        more: dict[tuple[int, int], int] = {}
        refusals: list[Refusal] = []
        room = False
        for need in needs:
            shares, made = self._shares(claim, need, policy, refusals)
            room = room or made
            for node, pages in shares.items():
                more[need.page_kib, node] = more.get((need.page_kib, node), 0) + pages
                self.stock.add(need.page_kib, node, pages)
            self.stock.promise(claim.uuid, need)
        self.refusals += refusals
        if refusals:
            return
        paths = {self.stock.pool(*key).path for key in more}
        if paths & self.touched:
            self.waiting.add(claim.uuid)
            return
        self.touched |= paths
        if room:
            self.steps += _make_room(claim, policy)
        self.steps += [
            self._step(claim, size, node, pages, compacted=room) for (size, node), pages in more.items()
        ]

    def _shares(
        self, claim: Claim, need: Need, policy: HugepagesPolicy, refusals: list[Refusal]
    ) -> tuple[dict[int, int], bool]:
        """Pages to add by node, and whether room is to be made before."""
        if not need.known:
            refusals.append(_no_such_size(claim, need, self.stock.pages.sizes))
            return {}, False
        if self.stock.free(need.page_kib, need.enough) >= need.pages:
            return {}, False
        most = {
            node: self.stock.capacity(need.page_kib, node)
            for node in sorted({*need.where, *need.else_})
            if not self.observed.untouchable(self.stock.pool(need.page_kib, node).path)
        }
        if self.stock.free(need.page_kib, need.else_) + sum(most.values()) >= need.pages:
            for way in self._ways(claim, need, policy):
                wanted = need.pages - self.stock.free(need.page_kib, way.enough)
                shares = spread(wanted, {node: most[node] for node in way.nodes if node in most})
                if wanted <= 0 or shares:
                    return shares, way.room
            if self.stock.free(need.page_kib, need.else_) >= need.pages:
                return {}, False
        refusals.append(self._too_few(claim, need, policy))
        return {}, False

    def _ways(self, claim: Claim, need: Need, policy: HugepagesPolicy) -> Iterable[_Way]:
        """In the order in which they are gone; a node that gave fewer than it was asked for is not asked again."""
        known = {node: self._record(claim, need, node) for node in {*need.where, *need.else_}}
        spent = {node for node, record in known.items() if record is not None and record.spent}
        compacted = any(record.compacted for record in known.values() if record is not None)
        yield _Way(nodes=[node for node in need.where if node not in spent], enough=need.enough)
        if spent and not compacted and (policy.compact or policy.drop_caches):
            yield _Way(nodes=need.where, enough=need.enough, room=True)
        yield _Way(nodes=sorted(need.else_ - {*need.where} - spent), enough=need.else_)

    def _record(self, claim: Claim, need: Need, node: int) -> HugepagesRecord | None:
        path = self.stock.pool(need.page_kib, node).path
        return self.records.get(hugepages_key(claim.uuid, path))

    def _step(self, claim: Claim, size: int, node: int, pages: int, *, compacted: bool) -> SetHugepages:
        pool, name = self.stock.pool(size, node), claim.definition.name
        known = self.records.get(hugepages_key(claim.uuid, pool.path)) or HugepagesRecord(
            uuid=claim.uuid,
            name=name,
            path=pool.path,
            node=node,
            page_kib=size,
            base=self.stock.base(pool),
        )
        # Growing makes lasting pages of surplus ones first, and these are in use (set_max_huge_pages).
        target = pool.total + pages
        return SetHugepages(
            object=pool.path,
            before=str(pool.lasting),
            after=str(target),
            why=f"{name} needs {pages_text(pages, size)} more on node {node}",
            claim=claim.uuid,
            record=replace(
                known,
                asked=known.added + target - pool.lasting,
                before=pool.lasting,
                target=target,
                compacted=known.compacted or compacted,
            ),
        )

    def _too_few(self, claim: Claim, need: Need, policy: HugepagesPolicy) -> Refusal:
        nodes = need.else_ if len(need.else_) > len(need.where) else frozenset(need.where)
        has = min(need.pages, self.stock.free(need.page_kib, nodes))
        could = sum(self.stock.capacity(need.page_kib, node) for node in nodes)
        name, where = claim.definition.name, f"node{'s' if len(nodes) > 1 else ''} {format_cpu_list(nodes)}"
        asked = pages_text(need.pages, need.page_kib)
        reason = f"{name} needs {asked} on {where}, and {has} of {need.pages} can be had"
        degraded = [
            p for n in nodes if self.observed.untouchable(p := self.stock.pool(need.page_kib, n).path)
        ]
        if degraded:
            reason += f": a write to {degraded[0]} has not returned, or failed"
            remedy = "`hostler status` says which; it is tried again when the write has returned"
        elif has + could < need.pages:
            reason += f": all memory there would be no more than {pages_text(has + could, need.page_kib)}"
            remedy = "give it less memory, or memory of more nodes"
        else:
            reason += ": the kernel finds no more memory in one piece, or not in time"
            room = "" if policy.compact and policy.drop_caches else ROOM.format(name=f'[domain."{name}"]')
            size = size_text(need.page_kib).replace(" ", "").removesuffix("iB")
            remedy = REMEDY.format(size=size, room=room)
        return Refusal(object=name, reason=reason, remedy=remedy, claim=claim.uuid)


def _no_such_size(claim: Claim, need: Need, sizes: Iterable[int]) -> Refusal:
    name, has = claim.definition.name, ", ".join(map(size_text, sizes)) or "none at all"
    return Refusal(
        object=name,
        reason=f"{name} asks for pages of {size_text(need.page_kib)}, which this kernel does not have (it has {has})",
        remedy="change <memoryBacking> in its definition; pages of 1 GiB need a processor with pdpe1gb",
        claim=claim.uuid,
    )


def _make_room(claim: Claim, policy: HugepagesPolicy) -> Iterable[Step]:
    """First what can be forgotten, then what is left is moved together."""
    name = claim.definition.name
    for path, value, allowed in ((DROP_CACHES, "3", policy.drop_caches), (COMPACT, "1", policy.compact)):
        if allowed:
            yield MakeRoom(
                object=path,
                before=None,
                after=value,
                why=f"the kernel gave too few huge pages for {name}",
                claim=claim.uuid,
                optional=True,
            )


def spread(count: int, most: Mapping[int, int]) -> dict[int, int]:
    """Evenly, with no more on any node than it could ever have."""
    shares = dict.fromkeys(most, 0)
    left = min(count, sum(most.values()))
    while left > 0:
        open_ = [node for node in most if shares[node] < most[node]]
        each = max(1, left // len(open_))
        for node in open_:
            more = min(each, most[node] - shares[node], left)
            shares[node] += more
            left -= more
    return {node: pages for node, pages in shares.items() if pages}

"""Edits of domain definitions: kept, made, read back, and taken back; each ends before or after, whatever happens.

What is kept is /var/lib/hostler/definitions/UUID.json, one file a domain, replaced atomically with fsync. Order of an
edit: kept as begun, the definition written, read back, kept as done. A begun edit that a kill left behind is told from
the definition: its elements are there or they are not. The same question ends an edit that somebody took back by hand.

Edits of different kinds (GPU, pins) of one domain do not know of each other: each is settled and taken back alone. Of
the kind GPU there is a pile; of pins there is one edit, and another takes its place in one write of the definition.

One edit at a time. None is cut in the middle: a caller that hangs up does not stop it, and each call has a limit.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import trio

from hostler.errors import HostFailed, HostlerError, Refused
from hostler.wire import STATE_DIRECTORY
from hostlerd.definition.elements import canonical, fragment
from hostlerd.definition.gpu import diff, set_gpu
from hostlerd.definition.pins import pins_of, set_pins
from hostlerd.definition.splice import Document, as_written, others
from hostlerd.host import Files, Host
from hostlerd.model.edits import (
    GPU,
    NO_PINS,
    PINS,
    By,
    Change,
    Edit,
    Edits,
    GpuChange,
    Kind,
    PinsChange,
    in_force,
)

log = logging.getLogger(__name__)

FOLDER = f"{STATE_DIRECTORY}/definitions"
FORM = 1
READ_LIMIT = 5.0

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an edit changes, or did. `diff`: a unified diff, empty where nothing changes. `xml`: the definition then."""

    before: str
    after: str
    diff: str = ""
    xml: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.diff)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An edit that is wanted of a domain. `before`, `after`: for people."""

    uuid: str
    name: str
    change: GpuChange | PinsChange
    by: By
    before: str
    after: str
    lacks: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return GPU if isinstance(self.change, GpuChange) else PINS


class Definitions:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._one = trio.Lock()
        self._edits: dict[str, tuple[Edit, ...]] = {}
        self._loaded = False

    @property
    def edits(self) -> Edits:
        """What is in force. Empty until `wait_loaded`."""
        return self._edits

    async def wait_loaded(self) -> None:
        """Read what was kept. Raises TimedOut; a file that makes no sense is said and left where it is."""
        if not self._loaded:
            files = self._host.files
            found = await self._host.look(lambda: _load(files), limit=READ_LIMIT)
            self._edits = found or self._edits
            self._loaded = True

    async def edit(self, wish: Wish, *, dry_run: bool = False, live: bool = False) -> Outcome:
        """Make an edit, on top of those of its kind that are in force but for a fallback, which is taken back first,
        and for pins, which it replaces.

        `live`: of the domain that runs, too; Refused where libvirt cannot do that.
        Raises HostFailed and kin; then the definition is as it was.
        """
        await self.wait_loaded()
        async with self._one:
            return await _uncut(self._edit(wish, dry_run=dry_run, live=live))

    async def take_back(
        self, uuid: str, kind: Kind = GPU, *, dry_run: bool = False, live: bool = False
    ) -> Outcome:
        """Undo the newest edit of this kind of a domain. Raises Refused where there is none."""
        await self.wait_loaded()
        async with self._one:
            return await _uncut(self._take_back(uuid, kind, dry_run=dry_run, live=live))

    async def settle(self, uuids: Iterable[str]) -> None:
        """Of these domains: finish what a kill cut, forget what is not in force any more."""
        await self.wait_loaded()
        async with self._one:
            for uuid in [uuid for uuid in uuids if uuid in self._edits]:
                await _uncut(self._settle(uuid))

    async def forget(self, uuid: str) -> None:
        """A domain that is not defined any more."""
        await self.wait_loaded()
        async with self._one:
            if uuid in self._edits:
                await self._keep(uuid, ())

    # Inside, one at a time

    async def _edit(self, wish: Wish, *, dry_run: bool, live: bool) -> Outcome:
        uuid = wish.uuid
        await self._settle(uuid)
        found = await self._host.hypervisor.definition_xml(uuid)
        document = Document(found)
        newest = in_force(self._edits, uuid, wish.kind)
        gives_way = newest is not None and (newest.kind == PINS or newest.by == "fallback")
        if newest is not None and gives_way:
            document.take_back(newest.changes)
        base = document.text
        if newest is not None and newest.by == "fallback" and not dry_run:
            await self._take_back(uuid, wish.kind, dry_run=False)
            base = await self._host.hypervisor.definition_xml(uuid)
        document = Document(base)
        if isinstance(wish.change, GpuChange):
            set_gpu(document, wish.change)
        else:
            set_pins(document, wish.change)
            if newest is not None and pins_of(document.changes) == newest.pins:
                return Outcome(before=wish.before, after=wish.after, xml=found)
        outcome = Outcome(
            before=wish.before,
            after=wish.after,
            diff=diff(found, document.text, wish.name),
            xml=document.text,
        )
        if dry_run or document.text == (found if wish.kind == PINS else base):
            return outcome
        if live:
            _pluggable(document.changes)
        edit = Edit(
            uuid=uuid,
            name=wish.name,
            kind=wish.kind,
            by=wish.by,
            before=NO_PINS if wish.kind == PINS else wish.before,
            after=wish.after,
            changes=tuple(document.changes),
            known=others(document) if wish.kind == GPU else (),
            lacks=wish.lacks,
            since=time.time(),
            pins=pins_of(document.changes),
        )
        below = self._edits.get(uuid, ())
        await self._keep(uuid, (*below, edit))
        try:
            await self._write(uuid, document, live=live)
        except HostlerError:
            await self._settle_quietly(uuid)
            raise
        await self._settle(uuid)
        return outcome

    async def _take_back(self, uuid: str, kind: Kind, *, dry_run: bool, live: bool = False) -> Outcome:
        await self._settle(uuid)
        edit = in_force(self._edits, uuid, kind)
        if edit is None:
            what = " of where it begins" if kind == PINS else ""
            raise Refused(
                f"there is no edit of hostler's{what} in this domain",
                remedy="`hostler domains NAME` shows what there is",
            )
        found = await self._host.hypervisor.definition_xml(uuid)
        document = Document(found)
        document.take_back(edit.changes)
        outcome = Outcome(
            before=edit.after,
            after=edit.before,
            diff=diff(found, document.text, edit.name),
            xml=document.text,
        )
        if dry_run:
            return outcome
        if document.text != found:
            await self._write(uuid, document, live=live)
        await self._keep(uuid, tuple(one for one in self._edits[uuid] if one is not edit))
        return outcome

    async def _write(self, uuid: str, document: Document, *, live: bool) -> None:
        """The definition; with `live` first what runs, which goes back if it cannot be done in full."""
        hypervisor = self._host.hypervisor
        done: list[Change] = []
        try:
            for change in _pluggable(document.changes) if live else ():
                await (hypervisor.plug if change.added else hypervisor.unplug)(uuid, change.text.strip())
                done.append(change)
            await hypervisor.redefine(uuid, document.text)
        except HostlerError:
            for change in reversed(done):
                try:
                    await (hypervisor.unplug if change.added else hypervisor.plug)(uuid, change.text.strip())
                except HostlerError as error:
                    log.warning("%s", error.sentence)
            raise

    async def _settle_quietly(self, uuid: str) -> None:
        """After a call that failed, perhaps because libvirt is away: the next snapshot settles it."""
        try:
            await self._settle(uuid)
        except HostlerError as error:
            log.info("%s", error.sentence)

    async def _settle(self, uuid: str) -> None:
        if uuid not in self._edits:
            return
        found = await self._host.hypervisor.definition_xml(uuid)
        edits = (*_settled_gpu(self._edits[uuid], found), *_settled_pins(self._edits[uuid], found))
        if edits == self._edits[uuid]:
            return
        await self._keep(uuid, edits)

    async def _keep(self, uuid: str, edits: tuple[Edit, ...]) -> None:
        """Raises HostFailed; then nothing was changed."""
        path = f"{FOLDER}/{uuid}.json"
        kept = {"form": FORM, "edits": [asdict(edit) for edit in edits]}
        try:
            await self._host.writer.replace_file(path, json.dumps(kept, indent=1) + "\n" if edits else None)
        except OSError as error:
            raise HostFailed(
                f"{path} cannot be written: {error.strerror}",
                remedy="nothing was changed; make room and try again",
                data={"object": path, "errno": error.errno},
            ) from error
        if edits:
            self._edits = {**self._edits, uuid: edits}
        else:
            self._edits = {key: value for key, value in self._edits.items() if key != uuid}


async def _uncut(what: Awaitable[T]) -> T:
    """To its end, also when whoever asked has hung up."""
    found: list[T] = []
    with trio.CancelScope(shield=True):
        found.append(await what)
    return found[0]


def _pluggable(changes: Iterable[Change]) -> list[Change]:
    """The changes as they can be made to a guest that runs. Raises Refused."""
    found: list[Change] = []
    for change in changes:
        if change.parent != "devices":
            continue  # our own note, or an empty parent: nothing of the guest's
        device = fragment(change.text)
        if device.tag != "hostdev" or device.get("type") != "pci":
            what = (
                "a slice, which is made before the start," if device.tag == "hostdev" else f"<{device.tag}>"
            )
            raise Refused(
                f"libvirt cannot plug {what} into a domain that runs",
                remedy="stop the domain first, without --live",
            )
        found.append(change)
    return found


def _settled_gpu(edits: Iterable[Edit], text: str) -> tuple[Edit, ...]:
    pile = [edit for edit in edits if edit.kind == GPU]
    while pile and not _is_in_force(pile[-1], text):
        log.info("%s: the edit to %s is not in its definition", pile[-1].name, pile[-1].after)
        pile.pop()
    if pile and not pile[-1].done:
        written = as_written(pile[-1].changes, pile[-1].known, text)
        pile[-1] = replace(pile[-1], changes=written, known=(), done=True)
    return tuple(pile)


def _settled_pins(edits: Iterable[Edit], text: str) -> tuple[Edit, ...]:
    """The one that is in the definition, without the elements that are not as it wrote them: those are somebody's."""
    pile = [edit for edit in edits if edit.kind == PINS]
    document = Document(text)
    if len(pile) > 1 and not pile[-1].done:
        # Written in the place of the one below, or not: told by what the two do not share.
        old, new = (set(_forms(edit)) for edit in pile[-2:])
        there = {form for form, change in _forms(pile[-1]).items() if document.find(change) is not None}
        gone = {form for form, change in _forms(pile[-2]).items() if document.find(change) is None}
        is_made = bool(there - old) or (not new - old and bool(gone - new))
        pile = [pile[-1]] if is_made else [pile[-2]]
    if not pile:
        return ()
    edit = pile[-1]
    # What came along, an empty parent, stays ours: it goes if it is empty when the edit is taken back.
    left = tuple(c for c in edit.changes if not c.parent or document.find(c) is not None)
    if not any(change.parent for change in left):
        log.info("%s: the edit (%s) is not in its definition", edit.name, edit.after)
        return ()
    if left == edit.changes and edit.done:
        return (edit,)
    if left != edit.changes:
        log.info(
            "%s: some of the elements that hostler wrote (%s) are somebody else's now", edit.name, edit.after
        )
    pins = pins_of(left)
    return (replace(edit, changes=left, pins=pins, after=str(pins), done=True),)


def _forms(edit: Edit) -> dict[str, Change]:
    """What it added, by what it says."""
    return {canonical(fragment(change.text)): change for change in edit.changes if change.parent}


def _is_in_force(edit: Edit, text: str) -> bool:
    """Something that it added is there; where it only took away, something of that is still not there."""
    document = Document(text)
    # Not the parents that had to come along: an empty one says nothing.
    changes = [change for change in edit.changes if change.parent] or edit.changes
    added = [change for change in changes if change.added]
    if added:
        return any(document.find(change, filled_in=not edit.done) is not None for change in added)
    return any(document.find(change) is None for change in changes)


def _load(files: Files) -> dict[str, tuple[Edit, ...]]:
    found: dict[str, tuple[Edit, ...]] = {}
    if not files.exists(FOLDER):
        return found
    for name in files.listdir(FOLDER):
        uuid, _, ending = name.partition(".")
        if ending != "json":
            continue
        try:
            kept = json.loads(files.read(f"{FOLDER}/{name}"))
            if kept["form"] != FORM:
                raise ValueError(f"it has the form {kept['form']!r}")
            found[uuid] = tuple(_edit_of(value) for value in kept["edits"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error(
                "%s/%s makes no sense (%s): what it was about cannot be taken back", FOLDER, name, error
            )
    return found


def _edit_of(value: Json) -> Edit:
    """JSON knows no tuples. Raises KeyError, TypeError."""
    value = {**value, "known": tuple(value["known"]), "lacks": tuple(value["lacks"])}
    value["changes"] = tuple(Change(**change) for change in value["changes"])
    value["pins"] = pins_of(value["changes"])
    return Edit(**value)

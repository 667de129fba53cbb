"""`hostler gpu`: what a person wants of a domain, checked against the host, to one edit of its definition.

Nothing is decided here about who has a device: an edit says what the next start asks for, and that start is granted or
refused as any other.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hostler.errors import BadInput, Refused
from hostlerd.act.definitions import Wish
from hostlerd.decide.gpu import find_device, find_slice, gpu_addresses, summary, whole_card
from hostlerd.model.devices import Function, parse_address
from hostlerd.model.domains import Definition
from hostlerd.model.edits import WAYS, GpuChange, Model, Way, in_force
from hostlerd.model.slices import Slices
from hostlerd.observe.names import device_names
from hostlerd.observe.pci import is_on_vfio_now
from hostlerd.reconcile.defined import Edited, find
from hostlerd.reconcile.shared import Shared

Asked = Way | Literal["undo"]
ASKED: tuple[Asked, ...] = (*WAYS, "undo")
LOOK_LIMIT = 5.0
"""Seconds to look at the links of a few functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """`what`: the device or the type of slice. `model`: None keeps what is there."""

    domain: str
    way: Asked
    what: str = ""
    model: Model | None = None
    video: bool = True
    live: bool = False
    dry_run: bool = False


class GpuChanges:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def change(self, request: GpuRequest) -> Edited:
        """The domain as it was, and what was or would be changed.

        Raises BadInput (no such domain, device or slice), Refused (it runs or starts), HostFailed.
        """
        definition, runs = await find(self._shared, request.domain)
        if runs and not request.live and not request.dry_run:
            raise Refused(
                f"{definition.name} runs, and what is changed now would hold from its next start on",
                remedy="stop it first, or plug the device in while it runs with --live",
            )
        definitions, live = self._shared.definitions, request.live and runs
        if request.way == "undo":
            self._check_not_policys(definition)
            outcome = await definitions.take_back(definition.uuid, dry_run=request.dry_run, live=live)
        else:
            change, wish = self._wish(request, definition)
            if live:
                await self._check_can_plug(change, definition)
            outcome = await definitions.edit(wish, dry_run=request.dry_run, live=live)
        if not request.dry_run and outcome.changed:
            self._shared.tell(
                "definition", definition.name, f"{outcome.before} -> {outcome.after}: asked for"
            )
            self._shared.look_at_domains.kick()
            self._shared.look_at_host.kick()  # what is published has the edits, too
        return definition, outcome

    def _wish(self, request: GpuRequest, definition: Definition) -> tuple[GpuChange, Wish]:
        functions = self._functions()
        edit = in_force(self._shared.definitions.edits, definition.uuid)
        lacked = edit.lacks if edit is not None and edit.by == "fallback" else ()
        leave = frozenset((*gpu_addresses(definition, functions, self._shared.memory.known), *lacked))
        before = summary(definition, functions, self._shared.memory.known)
        if request.way == "passthrough":
            cards = self._card(request.what, functions)
            change = GpuChange(way="passthrough", leave=leave, pci=cards, video=request.video)
            after = " ".join(("passthrough", *cards))
        elif request.way == "slice":
            taken = frozenset(a for d in self._others(definition) for a in d.pci_addresses)
            found = find_slice(request.what, str(uuid.uuid4()), functions, taken, self._slices())
            if isinstance(found, str):
                raise BadInput(found, remedy="`hostler devices` shows what there is")
            pci = () if found.vf is None else (found.vf,)
            change = GpuChange(way="slice", leave=leave, pci=pci, slice=found, video=request.video)
            after = f"slice {request.what}"
        else:
            model: Model = request.model or "virtio"
            change = GpuChange(way="emulated", leave=leave, model=model, keep_model=request.model is None)
            after = "emulated" if request.model is None else f"emulated {model}"
        wish = Wish(
            uuid=definition.uuid, name=definition.name, change=change, by="user", before=before, after=after
        )
        return change, wish

    def _functions(self) -> Mapping[str, Function]:
        observed = self._shared.observed
        return {} if observed is None else observed.functions

    def _slices(self) -> Slices:
        observed = self._shared.observed
        return Slices() if observed is None else observed.slices

    def _others(self, definition: Definition) -> list[Definition]:
        snapshot = self._shared.snapshot
        all_of_them = [*snapshot.inactive, *(d.live for d in snapshot.running)]
        return [domain for domain in all_of_them if domain.uuid != definition.uuid]

    def _card(self, word: str, functions: Mapping[str, Function]) -> tuple[str, ...]:
        """The whole card that is meant. Raises BadInput."""
        with contextlib.suppress(ValueError):  # then it is a name
            word = parse_address(word)
        names = device_names(functions.values())
        found = find_device(word, functions, names, self._shared.settings)
        cards = dict.fromkeys(whole_card(address, functions, self._shared.settings) for address in found)
        if not found:
            raise BadInput(
                f"no device of this host is meant by {word!r}",
                remedy="name an address, a [[device]] section, or a part of a card's name (`hostler devices`)",
            )
        if len(cards) > 1:
            several = ", ".join(f"{address} ({names[address]})" for address in found)
            raise BadInput(f"{word!r} may be any of {several}", remedy="give one's address")
        if not functions[found[0]].is_endpoint:
            raise BadInput(
                f"{found[0]} is a bridge, which VFIO cannot give away", remedy="name the device behind it"
            )
        return next(iter(cards))

    def _check_not_policys(self, definition: Definition) -> None:
        edit = in_force(self._shared.definitions.edits, definition.uuid)
        policy = self._shared.settings.domain(definition.name, definition.uuid)
        if edit is not None and edit.by == "fallback" and policy.fallback != "none":
            raise Refused(
                f"policy made the last edit of {definition.name} and would make it again: {' '.join(edit.lacks)} is "
                "missing or taken",
                remedy=f'it ends by itself; or set fallback = "none" for {definition.name}',
            )

    async def _check_can_plug(self, change: GpuChange, definition: Definition) -> None:
        """No hook runs for what is plugged in: nobody would hand it over. Looked at now: the last pass may be old."""
        host, new = self._shared.host, [a for a in change.pci if a not in definition.pci_addresses]
        ready = await host.look(lambda: {a for a in new if is_on_vfio_now(host.files, a)}, limit=LOOK_LIMIT)
        for address in new:
            if address not in ready:
                raise Refused(
                    f"{address} is not on VFIO, and libvirt does not ask for it when it is plugged in",
                    remedy=f'stop {definition.name} first, or set when_idle = "vfio" for the device',
                    data={"object": address},
                )

"""`hostler pins`: where a domain is to begin, written into its definition once, shown, or taken back."""

from __future__ import annotations

from dataclasses import dataclass

from hostler.errors import Refused, Unreachable
from hostlerd.act.definitions import Outcome, Wish
from hostlerd.decide.lasting_pins import planned_pins
from hostlerd.model.domains import Definition
from hostlerd.model.edits import NO_PINS, PINS, in_force, written_pins
from hostlerd.reconcile.defined import Edited, find
from hostlerd.reconcile.shared import Shared


@dataclass(frozen=True, slots=True, kw_only=True)
class PinsRequest:
    """`undo`: take back what is written."""

    domain: str
    undo: bool = False
    dry_run: bool = False


class PinsChanges:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def change(self, request: PinsRequest) -> Edited:
        """The domain as it was, and what was or would be changed.

        Raises BadInput (no such domain), Refused (it runs or starts; there is nothing to be written), HostFailed.
        """
        shared = self._shared
        definition, runs = await find(shared, request.domain)
        if runs and not request.dry_run:
            raise Refused(
                f"{definition.name} runs, and what is written now would hold from its next start on",
                remedy="stop it first; or set write_config = true for it, and it is written when it stops",
            )
        if request.undo:
            outcome = await self._take_back(definition, dry_run=request.dry_run)
        else:
            outcome = await self._write(definition, dry_run=request.dry_run)
        if not request.dry_run and outcome.changed:
            shared.tell("definition", definition.name, f"{outcome.before} -> {outcome.after}: asked for")
            shared.look_at_domains.kick()
            shared.look_at_host.kick()  # what is published has the edits, too
        return definition, outcome

    async def _take_back(self, definition: Definition, *, dry_run: bool) -> Outcome:
        policy = self._shared.settings.domain(definition.name, definition.uuid, definition.wishes)
        edit = in_force(self._shared.definitions.edits, definition.uuid, PINS)
        if edit is not None and policy.write_config and not dry_run:
            raise Refused(
                f"policy has the pins of {definition.name} written, and would write them again",
                remedy=f"set write_config = false for {definition.name}, and they are taken back by themselves",
            )
        return await self._shared.definitions.take_back(definition.uuid, PINS, dry_run=dry_run)

    async def _write(self, definition: Definition, *, dry_run: bool) -> Outcome:
        shared = self._shared
        if shared.observed is None:
            raise Unreachable("the host has not been looked at yet", remedy="try again in a moment")
        planned = planned_pins(shared.seen(shared.observed), shared.settings, definition)
        if isinstance(planned, str):
            raise Refused(f"there is nothing to be written for {definition.name}: {planned}")
        before = written_pins(shared.definitions.edits, definition.uuid)
        wish = Wish(
            uuid=definition.uuid,
            name=definition.name,
            change=planned,
            by="user",
            before=str(before) if before else NO_PINS,
            after=str(planned),
        )
        return await shared.definitions.edit(wish, dry_run=dry_run)

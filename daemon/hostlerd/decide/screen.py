"""The boot framebuffer lets go of a card before that is moved, and has it again when the card is home.

Pure. While its driver keeps a part of the card's memory, VFIO takes the card and the guest has one without memory (the
start succeeds, and the kernel says "BAR 0: can't reserve"). A framebuffer writes to the memory that the firmware told
it of: it is bound again only where the card is there, on the driver that it was on, and its memory is where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostlerd.decide.ownership import Ownership
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.holders import BootFramebuffer
from hostlerd.model.ledger import FramebufferRecord
from hostlerd.model.memory import memory
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Framebuffer
from hostlerd.model.questions import Question


@dataclass(slots=True, kw_only=True)
class Screens:
    steps: list[Framebuffer] = field(default_factory=list[Framebuffer])
    questions: list[Question] = field(default_factory=list[Question])
    settled: list[str] = field(default_factory=list[str])


def let_go(function: Function, boot: BootFramebuffer, claim: str | None) -> Framebuffer:
    """Before the card is moved."""
    return Framebuffer(
        object=boot.device,
        before=boot.driver,
        after=None,
        why=f"the screen of {function.address} is its, and VFIO could not have the card's memory",
        claim=claim,
        driver=boot.driver,
        record=FramebufferRecord(
            device=boot.device,
            driver=boot.driver,
            card=function.address,
            card_driver=function.driver or "",
            memory=boot.memory,
        ),
    )


def decide_screens(observed: Observed, own: Ownership) -> Screens:
    """On the way back."""
    found = Screens()
    ledger = observed.ledger
    for record in ledger.framebuffers.values():
        away = record.card in ledger.devices or record.card in own.wants or record.card in own.holder
        if away or ledger.untouchable(record.device) or ledger.untouchable(record.card):
            continue
        path = f"{DEVICES}/{record.card}/resource"
        if record.device not in observed.platform or path not in observed.attributes:
            found.questions.append(Question(kind="platform", object=record.device))
            found.questions.append(Question(kind="attribute", object=path))
            continue
        function = observed.functions.get(record.card)
        fits = (
            function is not None
            and (function.driver or "") == record.card_driver
            and memory(observed.attributes[path]) == record.memory
        )
        if observed.platform[record.device] != "" or not fits:
            found.settled.append(
                record.device
            )  # it has its driver or is gone, or the screen is another's now
            continue
        found.steps.append(
            Framebuffer(
                object=record.device,
                before=None,
                after=record.driver,
                why=f"{record.card} is home again",
                driver=record.driver,
            )
        )
    return found

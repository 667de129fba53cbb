"""Functions that are being taken away while somebody has them: pulled out, or unbound by another program.

Pure. The kernel waits in the driver's remove() until the user lets go (vfio_unregister_group_dev), and for a card that
is pulled out holds the lock of all adding and removing of PCI devices meanwhile (pci_lock_rescan_remove). Nothing of
ours ends that, and nothing is written to such a function; it is said, and who has to let go.
"""

from __future__ import annotations

from hostlerd.decide.ownership import Ownership
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal
from hostlerd.model.questions import Question


def departing(observed: Observed, own: Ownership) -> tuple[list[Refusal], list[Question]]:
    refusals: list[Refusal] = []
    questions: list[Question] = []
    for address, function in observed.functions.items():
        if not function.leaving or observed.ledger.untouchable(address):
            continue
        domain = own.holder.get(address)
        if domain is not None and domain.uuid:
            who, remedy = domain.name, f"stop {domain.name}"
        elif address not in observed.holders:
            questions.append(Question(kind="holders", object=address))
            continue
        elif found := observed.holders[address]:
            who, remedy = found[-1].told, "end it"
        else:
            who, remedy = "something in the kernel", "see the kernel's log for what its driver waits for"
        refusals.append(
            Refusal(
                object=address,
                reason=f"{address} is being taken out of the host, and {who} still has it: the kernel waits",
                remedy=remedy,
            )
        )
    return refusals, questions

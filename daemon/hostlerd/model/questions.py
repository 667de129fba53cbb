"""What a decision would have to know and was not told: asked by `decide`, answered by the observers, decided again.

Not everything is looked at in every pass: who has a device open costs a walk through /proc, some files are of interest
only while something of ours is in them. A plan with questions is not yet a plan for what they are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QUESTIONS = 6
"""Times that `decide` may ask in one look: each answer may bring the next question, and none comes twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`holders`: who has this function open, and what else keeps it busy. `attribute`: the text of this file. `unit`:
    what systemd says of this unit (ActiveState). `variant`: the VFIO driver made for this function. `platform`: the
    driver of this platform device. `bars`: the resizable BARs of this function, and `alive`: whether it answers; both
    wake it. `memory`: where the memory of this running domain (UUID) is, as far as it is known by now. `scope`: the
    control group of this running domain (name). `tuning`: what can be set for the quiet of CPUs (model/tuning); with
    the object "threads" the kernel's threads, too. `hugepages` (of no object): the pools of all nodes, and what domains
    with a claim have of them.
    """

    kind: Literal[
        "holders",
        "attribute",
        "unit",
        "variant",
        "platform",
        "bars",
        "alive",
        "memory",
        "scope",
        "tuning",
        "hugepages",
    ]
    object: str

"""Which CPUs each domain's threads belong on, and the pins that still differ. Pure.

Read in this order:

  ours         which of the pins in force we made
  by_hand      those a user made while the domain runs
  tenant       a domain as placement sees it
  running      the assignment that is in force, read back from pins and record
  needs        what the planner (decide/placement) is asked for
  places       everybody's place
  floating     where those go that have no CPUs of their own; what is lent to them
  differences  the pins that differ

Whose pins win: a user's live one, until the domain stops; then the definition's; then ours. What the planner assigns is
one CPU per vCPU; emulators and iothreads stay on the host's CPUs, or on CPUs of their own where that is wished.
"""

from __future__ import annotations

from hostlerd.decide.pinning.differences import decide_pins
from hostlerd.decide.pinning.floating import Lent, floats_on, lent
from hostlerd.decide.pinning.places import Asked, ask, decide_placement
from hostlerd.decide.pinning.tenant import Tenant, tenants

__all__ = [
    "Asked",
    "Lent",
    "Tenant",
    "ask",
    "decide_pins",
    "decide_placement",
    "floats_on",
    "lent",
    "tenants",
]

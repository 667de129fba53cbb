"""Which CPUs each domain gets: pure, deterministic, no clock and no I/O.

Read in this order: `need` (what goes in and comes out), `objective` (what is good), `topology` (buckets: cores that
are alike), `pricing` (plans in counts and their cost), `candidates` (plans worth trying for one domain), `search`
(which plan each gets), `assignment` (counts to CPUs), `explanation` (why, in words). `planner` ties them together.
"""

from __future__ import annotations

from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.objective import Terms
from hostlerd.decide.placement.planner import BUDGET, Result, place
from hostlerd.decide.placement.topology import Host

__all__ = ["BUDGET", "Assignment", "Host", "Need", "Result", "Terms", "place"]

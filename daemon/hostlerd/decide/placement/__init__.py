"""Which CPUs each domain gets: pure, deterministic, no clock and no I/O.

Read in this order:

  need         what goes in and comes out
  objective    what is good: the thirteen terms, exactly and as one integer
  topology     the host; `layout` cuts it into buckets: cores that are alike, so that a plan is counts and not CPUs
  rates        what each bucket costs a vCPU
  pricing      plans and what they cost their domain; `settled` reads a plan off running pins
  ledger       who is where, and what that costs together
  candidates   plans worth trying for one domain: `spread` puts vCPUs into buckets, `completion` adds the rest
  beam         some domains placed one after the other while the rest stay
  search       who is lifted out and placed anew: `eviction` names those in the way of a better plan
  assignment   counts become CPUs: `staying` keeps who can stay, in what `holding` keeps account of
  planner      ties them together
  explanation  why, in words, for readers and not in every pass: `standing` is one domain's part of the objective,
               `reached` puts it in words, a `scene` is planned again without one to see who stands in the way
"""

from __future__ import annotations

from hostlerd.decide.placement.explanation import better_by, explain
from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.objective import Terms
from hostlerd.decide.placement.planner import BUDGET, Result, place
from hostlerd.decide.placement.scene import Scene
from hostlerd.decide.placement.topology import Host

__all__ = [
    "BUDGET",
    "Assignment",
    "Host",
    "Need",
    "Result",
    "Scene",
    "Terms",
    "better_by",
    "explain",
    "place",
]

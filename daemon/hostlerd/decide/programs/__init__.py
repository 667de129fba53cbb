"""Programs that want CPUs for themselves. Pure. Read in this order:

  admission   who gets some: never at the cost of anybody who has them already
  shortage    why not, and who has them
  scopes      the steps: into a scope of its own, and what becomes of what is left in one

Who has some, and for how long, is in decide/living: the placement of domains has to know, too.
"""

from __future__ import annotations

from hostlerd.decide.programs.admission import Programs, decide_programs
from hostlerd.decide.programs.scopes import scopes

__all__ = ["Programs", "decide_programs", "scopes"]

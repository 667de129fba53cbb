"""What keeps the host's own work off a domain's CPUs, by what it is that has to keep off.

Pure. Read in this order:

  isolated    whose CPUs, and how
  masks       AllowedCPUs of the host's units
  partitions  CPUs that are nobody else's, not even the scheduler's
  strangers   control groups that are no units, which nothing of this reaches
  interrupts  where interrupts are served
  work        the kernel's own work: queues, threads, timers, statistics
  power       clocks and sleep
  kthreads    threads of the kernel
  balancer    irqbalance
  tuning      all of these together, and what has to be known first
"""

from __future__ import annotations

from hostlerd.decide.isolation.isolated import Isolated
from hostlerd.decide.isolation.masks import decide_masks
from hostlerd.decide.isolation.partitions import decide_partitions, made, partition_wishes
from hostlerd.decide.isolation.strangers import strangers
from hostlerd.decide.isolation.tuning import decide_tuning

__all__ = [
    "Isolated",
    "decide_masks",
    "decide_partitions",
    "decide_tuning",
    "made",
    "partition_wishes",
    "strangers",
]
"""Settings for a domain's CPUs are wishes for kernel files (decide/attributes): set, put back, and found by a restart
like everything else."""

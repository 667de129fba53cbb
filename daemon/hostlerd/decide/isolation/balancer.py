"""irqbalance, which would move interrupts back: told to keep off, and told when that is over.

Pure. What it was told cannot be read from it, so the record says it; another process knows nothing of it. One that has
nothing to be told through is named: it and we would move interrupts to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostlerd.decide.isolation.isolated import Isolated, cpus_of, whom
from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.ledger import BalancerRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import TellBalancer
from hostlerd.model.tuning import Tuning


def decide_balancer(
    observed: Observed, tuning: Tuning, isolated: Sequence[Isolated]
) -> tuple[list[TellBalancer], list[str], list[str]]:
    """Steps, records that can be closed, and what a person should know."""
    balancer, records = tuning.balancer, observed.ledger.balancers
    name = "" if balancer is None else f"irqbalance {balancer.pid}"
    settled = [record for record in records if record != name]
    if balancer is None:
        return [], settled, []
    away = format_cpu_list(cpus_of(isolated, lambda how: how.interrupts))
    record = records.get(name)
    told = record.cpus if record is not None else ""
    # What failed is in the record all the same, which comes before it.
    if (away or told) and f"{name} {away}" in observed.immovable:
        what = f"to keep off CPUs {away}" if away else "that it may use all CPUs again"
        return [], settled, [f"irqbalance (process {balancer.pid}) could not be told {what}: restart it"]
    if away == told:
        return [], settled, []
    if not balancer.socket:
        note = f"irqbalance (process {balancer.pid}) moves interrupts back and has no socket to be told so: stop it"
        return [], settled, [note]
    why = f"interrupts keep off the CPUs of {whom(isolated, lambda how: how.interrupts)}"
    step = TellBalancer(
        object=name,
        before=told or None,
        after=away or None,
        why=why if away else "nobody needs it any more",
        pid=balancer.pid,
        socket=balancer.socket,
        record=BalancerRecord(balancer=name, cpus=away) if away else None,
    )
    return [step], settled, []

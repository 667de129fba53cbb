"""What a decision asked for (model/questions), looked at now.

Rules: what may block is read where it can be abandoned, each kind of question by itself. What cannot be found out is
answered, too, so that nothing is asked twice: nobody has it open, there is no such file, systemd does not say. Where a
domain's memory is takes too long for anybody to wait for: it is not known yet (reconcile/guest_memory looks).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from hostler.errors import HostlerError
from hostlerd.host import Files, Host
from hostlerd.model.devices import Function
from hostlerd.model.guest_memory import Placed
from hostlerd.model.holders import Holder
from hostlerd.model.hugepages import Hugepages
from hostlerd.model.observed import UNKNOWN, Observed
from hostlerd.model.questions import Question
from hostlerd.observe.awake import answering, resizable
from hostlerd.observe.grip import grips
from hostlerd.observe.holders import holders, look_for_holders
from hostlerd.observe.hugepages import observe_hugepages
from hostlerd.observe.scopes import scope_of
from hostlerd.observe.screen import platform_driver
from hostlerd.observe.slices import as_function
from hostlerd.observe.tuning import observe_tuning, shown
from hostlerd.observe.variants import variants

LIMIT = 5.0
"""Seconds one look at all processes, or at some files, may take."""


async def answered(host: Host, observed: Observed, questions: Iterable[Question]) -> Observed:
    """Raises hostler.errors.TimedOut."""
    questions = tuple(questions)
    files = host.files
    functions = _asked(observed, questions)
    found = await look_for_holders(host, functions, limit=LIMIT) if functions else ()
    observed = await host.look(lambda: answered_by_files(files, observed, questions, found), limit=LIMIT)
    observed = replace(
        observed,
        bars={**observed.bars, **await resizable(host, _of(questions, "bars"))},
        alive={**observed.alive, **await answering(host, _of(questions, "alive"))},
    )
    units = _of(questions, "unit")
    if not units:
        return observed
    try:
        states = await host.units.states(units)
    except HostlerError:
        states = dict.fromkeys(units, UNKNOWN)
    return replace(observed, units={**observed.units, **dict.fromkeys(units, ""), **states})


def answered_by_files(
    files: Files, observed: Observed, questions: Iterable[Question], found: Iterable[Holder] | None = None
) -> Observed:
    """As far as files go, which is what a recorded host has to do with: of units nothing is known then, no BAR can be
    resized, and every card is alive.

    `found`: who has what was asked for open, looked for here where it is None.
    """
    asked: defaultdict[str, list[str]] = defaultdict(list)
    for question in questions:
        asked[question.kind].append(question.object)
    functions = _asked(observed, questions)
    if found is None:
        found = holders(files, functions)
    held: dict[str, tuple[Holder, ...]] = {
        address: tuple(holder for holder in found if holder.address == address)
        for address in asked["holders"]
    }
    tuning, texts = observed.tuning, dict[str, str | None]()
    if asked["tuning"]:
        tuning, texts = observe_tuning(files, threads="threads" in asked["tuning"])
    return replace(
        observed,
        tuning=tuning,
        scopes={
            **observed.scopes,
            **{name: scope_of(files, observed.groups, name) for name in asked["scope"]},
        },
        holders={**observed.holders, **held},
        grips={**observed.grips, **grips(files, functions)},
        attributes={
            **observed.attributes,
            **texts,
            **{path: shown(files, path) for path in asked["attribute"]},
        },
        units={**dict.fromkeys(asked["unit"], ""), **observed.units},
        bars={**dict.fromkeys(asked["bars"], ()), **observed.bars},
        alive={**dict.fromkeys(asked["alive"], True), **observed.alive},
        hugepages=_hugepages(files, observed) if asked["hugepages"] else observed.hugepages,
        guest_memory={**dict.fromkeys(asked["memory"], Placed()), **observed.guest_memory},
        platform={
            **observed.platform,
            **{device: platform_driver(files, device) for device in asked["platform"]},
        },
        variants={
            **observed.variants,
            **variants(files, (observed.functions[a] for a in asked["variant"] if a in observed.functions)),
        },
    )


def _hugepages(files: Files, observed: Observed) -> Hugepages:
    """A claim whose guest runs has all that it needs, and its QEMU is not looked for: that could hang."""
    running = {one.uuid for one in observed.snapshot.running if one.state == "running"}
    starting = [c.definition for c in observed.ledger.claims.values() if c.uuid not in running]
    return observe_hugepages(files, [definition for definition in starting if definition.asks_for_hugepages])


def _of(questions: Iterable[Question], kind: str) -> list[str]:
    return [question.object for question in questions if question.kind == kind]


def _asked(observed: Observed, questions: Iterable[Question]) -> list[Function]:
    """The functions that are asked about, and the mediated devices, which are held as functions on VFIO are."""
    asked = [question.object for question in questions if question.kind == "holders"]
    found = [observed.functions[address] for address in asked if address in observed.functions]
    mdevs = observed.slices.mdevs
    return found + [as_function(mdevs[uuid]) for uuid in asked if uuid in mdevs]

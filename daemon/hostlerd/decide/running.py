"""What was stopped or unloaded for a device, and runs again when that is home.

Pure. Home: nothing of the device is recorded any more and nobody wants it. What cannot be started is degraded and said;
the device is none the worse for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostlerd.decide.ownership import Ownership
from hostlerd.model.holders import Container
from hostlerd.model.ledger import StoppedRecord, UnloadedRecord
from hostlerd.model.observed import RUNS, UNKNOWN, Observed
from hostlerd.model.plan import LoadModule, StartAgain, Step
from hostlerd.model.questions import Question


@dataclass(slots=True, kw_only=True)
class Running:
    steps: list[Step] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)


def decide_running(observed: Observed, own: Ownership) -> Running:
    found = Running()
    ledger = observed.ledger
    for unloaded in ledger.unloaded.values():
        if _is_home(observed, own, unloaded.device):
            _load(found, observed, unloaded)
    # The last that was stopped is the first to be started.
    for stopped in reversed(tuple(ledger.stopped.values())):
        loading = any(u.device == stopped.device for u in ledger.unloaded.values())
        dark = any(
            f.card == stopped.device and not ledger.untouchable(f.device)
            for f in ledger.framebuffers.values()
        )
        if (
            not loading
            and not dark
            and stopped.claim not in ledger.claims
            and _is_home(observed, own, stopped.device)
        ):
            _start(found, observed, stopped)
    return found


def _is_home(observed: Observed, own: Ownership, address: str) -> bool:
    return address not in observed.ledger.devices and address not in own.wants and address not in own.holder


def _load(found: Running, observed: Observed, record: UnloadedRecord) -> None:
    missing = False
    for module in reversed(record.stack):
        path = f"/sys/module/{module}/refcnt"
        if path not in observed.attributes:
            found.questions.append(Question(kind="attribute", object=path))
            missing = True
        elif observed.attributes[path] is None and not observed.ledger.untouchable(module):
            why = f"it was unloaded for {record.device}, which is home again"
            found.steps.append(LoadModule(object=module, before=None, after="loaded", why=why))
            missing = True
    if not missing:
        found.settled.append(record.module)


def _start(found: Running, observed: Observed, record: StoppedRecord) -> None:
    if observed.ledger.untouchable(record.name):
        return
    container = Container(engine=record.engine, id=record.name, owner=record.owner) if record.engine else None
    if container is None:
        if record.name not in observed.units:
            found.questions.append(Question(kind="unit", object=record.name))
            return
        state = observed.units[record.name]
        if state in RUNS or state == "":
            found.settled.append(record.name)  # it runs, or there is no such unit any more
            return
        if state == UNKNOWN:
            return  # when systemd answers again
    found.steps.append(
        StartAgain(
            object=record.name,
            before="stopped",
            after="running",
            why=f"it was stopped for {record.device}, which is home again",
            container=container,
        )
    )

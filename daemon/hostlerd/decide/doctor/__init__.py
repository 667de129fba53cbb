"""What `hostler doctor` finds: from what was looked at to findings and a kernel command line.

Rules: pure. One module a subject, each a function `examine` that yields findings. What is not known is said to be, it
is never broken. Nothing is ever advised that switches a protection off, and nothing is carried out.
"""

from __future__ import annotations

from hostlerd.decide.doctor import (
    cards,
    installation,
    isolation,
    kernel,
    parameters,
    passthrough,
    rivals,
    tuning,
)
from hostlerd.decide.doctor.advice import advise
from hostlerd.decide.doctor.shares import room, share
from hostlerd.model.checkup import Checkup
from hostlerd.model.findings import Diagnosis, Finding, unknown
from hostlerd.model.settings import Settings


def diagnose(checkup: Checkup, settings: Settings) -> Diagnosis:
    given = share(checkup, settings)
    return Diagnosis(
        findings=(
            *passthrough.examine(checkup),
            *cards.examine(checkup, settings),
            *kernel.examine(checkup),
            *isolation.examine(checkup, given),
            *parameters.examine(checkup, settings),
            *rivals.examine(checkup),
            *tuning.examine(checkup),
            *_domains(checkup),
            *installation.examine(checkup, settings),
        ),
        boot=advise(checkup, given, room(checkup.observed.topology, settings)),
    )


def _domains(checkup: Checkup) -> tuple[Finding, ...]:
    if checkup.domains:
        return ()
    return (
        unknown(
            "domains", "which domains there are, and which CPUs they would have", "libvirt was not asked"
        ),
    )

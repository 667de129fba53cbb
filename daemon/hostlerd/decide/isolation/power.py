"""Clocks and sleep of a domain's CPUs, and which half of an X3D processor the host's scheduler likes.

Pure. A preference (EPP) can be written only while the governor is powersave, where a driver has both (intel_pstate.c,
store_energy_performance_preference: EBUSY): so it is wished before the governor and put back after it, which is the
order of records turned round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostlerd.decide.attributes import Wish
from hostlerd.decide.isolation.isolated import Isolated
from hostlerd.model.observed import Observed
from hostlerd.model.profile import KEEP
from hostlerd.model.tuning import Tuning

TOLERATED = (16, 22)
"""EBUSY, EINVAL: the driver does not take it now, or not at all."""


def power_wishes(observed: Observed, tuning: Tuning, isolated: Sequence[Isolated]) -> Iterator[Wish]:
    for one in isolated:
        yield from _clocks(observed, tuning, one)
    for one in isolated:
        latency = one.how.resume_latency
        if latency != KEEP:
            for cpu in sorted(one.cpus & tuning.sleep.keys()):
                # pm_qos_resume_latency_us: 0 is "no limit", n/a is "no latency at all" (Documentation/ABI/testing,
                # sysfs-devices-power).
                value = "n/a" if latency == 0 else str(latency)
                yield Wish(
                    path=tuning.sleep[cpu], value=value, why=f"CPU {cpu} wakes up in time for {one.name}"
                )
        if one.how.x3d_mode != "keep":
            for path in tuning.x3d:
                yield Wish(
                    path=path, value=one.how.x3d_mode, why=f"which CPUs are filled first, for {one.name}"
                )


def _clocks(observed: Observed, tuning: Tuning, one: Isolated) -> Iterator[Wish]:
    for policy in tuning.frequencies:
        if not policy.cpus & one.cpus:
            continue
        why = f"the CPUs of {one.name} do not slow down"
        preference, governor = (
            f"{policy.path}/energy_performance_preference",
            f"{policy.path}/scaling_governor",
        )
        if one.how.epp in policy.preferences and observed.attributes.get(preference):
            yield Wish(path=preference, value=one.how.epp, why=why, tolerated=TOLERATED)
        if one.how.governor in policy.governors:
            yield Wish(path=governor, value=one.how.governor, why=why, tolerated=TOLERATED)

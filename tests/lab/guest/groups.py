"""The groups: which scenarios share a boot."""

from dataclasses import dataclass
from typing import Literal

from . import (
    absent,
    boot,
    bus,
    definitions,
    doctor,
    events,
    firmware_screen,
    hugepages,
    in_use,
    isolate,
    jitter,
    kills,
    kinds,
    main,
    partitions,
    placement,
    points,
    quiet,
    reboot,
    rivals,
    screen,
    sharing,
    slices,
    smoke,
    stuck,
    usb_rules,
    variants,
    wedged,
)
from .report import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    scenarios: tuple[Scenario, ...]
    phases: int = 1
    limit: float = 1500.0
    """Seconds for one boot of the group, power-off included."""
    product: bool = True
    """Whether our own packages are in the guest."""
    firmware: Literal["seabios", "ovmf"] = "seabios"
    """What the machine starts with; see `hardware`."""


GROUPS: dict[str, Group] = {
    "smoke": Group(scenarios=smoke.SCENARIOS, product=False),
    "facts": Group(scenarios=(*stuck.SCENARIOS, *kinds.SCENARIOS), product=False),
    "screen": Group(scenarios=screen.SCENARIOS, product=False, firmware="ovmf"),
    "firmware_screen": Group(scenarios=firmware_screen.SCENARIOS, firmware="ovmf"),
    "variants": Group(scenarios=variants.SCENARIOS),
    "main": Group(scenarios=main.SCENARIOS),
    "sharing": Group(scenarios=sharing.SCENARIOS, limit=2400.0),
    "events": Group(scenarios=(*bus.SCENARIOS, *doctor.SCENARIOS, *events.SCENARIOS)),
    "kills": Group(scenarios=kills.SCENARIOS, limit=2400.0),
    "isolate": Group(scenarios=isolate.SCENARIOS, limit=2400.0),
    "slices": Group(scenarios=slices.SCENARIOS, limit=2400.0),
    "hugepages": Group(scenarios=hugepages.SCENARIOS),
    "definitions": Group(scenarios=definitions.SCENARIOS),
    "in_use": Group(scenarios=(*in_use.SCENARIOS, *rivals.SCENARIOS), limit=2400.0),
    "partitions": Group(scenarios=partitions.SCENARIOS, limit=2400.0),
    "placement": Group(scenarios=placement.SCENARIOS, limit=2400.0),
    "quiet": Group(scenarios=quiet.SCENARIOS),
    "jitter": Group(scenarios=jitter.SCENARIOS),
    "absent": Group(scenarios=absent.SCENARIOS),
    "wedged": Group(scenarios=wedged.SCENARIOS),
    "points": Group(scenarios=points.SCENARIOS, limit=2700.0),
    "usb": Group(scenarios=usb_rules.SCENARIOS, limit=2400.0),
    "reboot": Group(scenarios=reboot.SCENARIOS, phases=2),
    "boot": Group(scenarios=boot.SCENARIOS, phases=2),
}

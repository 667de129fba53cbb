"""The udev rule that aims new cards at VFIO before any driver is loaded for them.

Pure. A driver that is already loaded still wins the race; the handoff then takes the card from it. Rules match what the
policy matches and nothing wider.
"""

from __future__ import annotations

from hostlerd.decide.ownership import VFIO
from hostlerd.model.ledger import FileRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import WriteRule
from hostlerd.model.settings import DevicePolicy, Settings

RULE_FILE = "/run/udev/rules.d/70-hostler.rules"
"""Before 80-drivers.rules, which loads modules; /run goes with the boot, as the daemon's journal does."""
_HEADER = "# Written by hostlerd from its policy; removed when no device is to be on VFIO while idle.\n"


def rule_text(settings: Settings) -> str | None:
    lines = [line for policy in settings.devices if (line := _line(policy)) is not None]
    return _HEADER + "".join(lines) if lines else None


def _line(policy: DevicePolicy) -> str | None:
    match = policy.match
    if policy.when_idle != "vfio" or match.serial or match.slot or match.path:
        return None
    tests = ['ACTION=="add"', 'SUBSYSTEM=="pci"']
    if match.address is not None:
        tests.append(f'KERNEL=="{match.address}"')
    if match.vendor is not None:
        tests.append(f'ATTR{{vendor}}=="0x{match.vendor:04x}"')
    if match.device is not None:
        tests.append(f'ATTR{{device}}=="0x{match.device:04x}"')
    if match.subsystem is not None:
        if match.subsystem > 0xFFFF:
            tests.append(f'ATTR{{subsystem_vendor}}=="0x{match.subsystem >> 16:04x}"')
        tests.append(f'ATTR{{subsystem_device}}=="0x{match.subsystem & 0xFFFF:04x}"')
    # A variant is found out when the card is there; which one policy names is known.
    driver = VFIO if policy.vfio_driver == "auto" else policy.vfio_driver
    return ", ".join([*tests, f'ATTR{{driver_override}}="{driver}"']) + "\n"


def decide_rule(observed: Observed, settings: Settings) -> tuple[list[WriteRule], list[str]]:
    wanted = rule_text(settings)
    record = observed.ledger.files.get(RULE_FILE)
    if wanted != observed.rule and (wanted is not None or record is not None):
        step = WriteRule(
            object=RULE_FILE,
            before=observed.rule,
            after=wanted,
            why="policy names cards that belong to VFIO while idle"
            if wanted
            else "policy names no such card any more",
            text=wanted,
            record=FileRecord(path=RULE_FILE) if wanted else None,
        )
        return [step], []
    return [], [RULE_FILE] if record is not None and wanted is None and observed.rule is None else []

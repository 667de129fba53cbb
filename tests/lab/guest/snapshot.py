"""Everything that must be as it was once no domain runs, and putting it back by force between scenarios.

Drivers and overrides byte for byte; slices by their effective CPUs, because systemd keeps a cleared mask.
"""

import contextlib
import json
from dataclasses import dataclass

from . import attempts, cpus, pci, sriov
from .programs import holds, run

SETTLE = 30.0
UNBIND_LIMIT = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    drivers: dict[str, str | None]
    overrides: dict[str, str]
    slices: dict[str, list[int]]

    def differences(self, other: "Snapshot") -> list[str]:
        """What is different in `other`, as `what: here, there`."""
        found = []
        for kind in ("drivers", "overrides", "slices"):
            here, there = getattr(self, kind), getattr(other, kind)
            found += [
                f"{kind} {name}: was {here.get(name)!r}, is {there.get(name)!r}"
                for name in sorted({*here, *there})
                if here.get(name) != there.get(name)
            ]
        return found

    def to_json(self) -> str:
        return json.dumps({"drivers": self.drivers, "overrides": self.overrides, "slices": self.slices})

    @classmethod
    def from_json(cls, text: str) -> "Snapshot":
        return cls(**json.loads(text))


def take() -> Snapshot:
    addresses = pci.functions()
    return Snapshot(
        drivers={address: pci.driver(address) for address in addresses},
        overrides={address: pci.override(address) for address in addresses},
        slices={unit: sorted(found) for unit, found in cpus.slices().items()},
    )


def differences(before: Snapshot, *, limit: float = SETTLE) -> list[str]:
    """What is still not as before when the limit has passed; empty as soon as everything is."""
    holds(lambda: not before.differences(take()), limit)
    return before.differences(take())


def force(before: Snapshot) -> None:
    """Put drivers and slices back without the daemon, so that one failed scenario does not fail the next."""
    if set(sriov.functions()) - set(before.drivers):
        attempts.write(f"{pci.DEVICES}/{sriov.CARD}/sriov_numvfs", "0").ends(UNBIND_LIMIT)
    now = take()
    for address, driver in before.drivers.items():
        if (now.drivers.get(address), now.overrides.get(address)) == (driver, before.overrides[address]):
            continue
        wanted = before.overrides[address].strip()
        if now.drivers.get(address) != driver and now.drivers.get(address) is not None:
            attempts.write(f"{pci.DEVICES}/{address}/driver/unbind", address).ends(UNBIND_LIMIT)
        with contextlib.suppress(OSError):
            pci.write(address, "driver_override", "\n" if wanted == "(null)" else wanted)
            pci.probe(address)
    for unit, wanted_cpus in before.slices.items():
        if now.slices[unit] != wanted_cpus:
            mask = f"AllowedCPUs={','.join(map(str, wanted_cpus))}"
            run("systemctl", "set-property", "--runtime", unit, mask)

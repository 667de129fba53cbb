"""How a function leaves the host's driver: by unbinding, or by unloading the driver's module.

Pure. NVIDIA's remove() waits for ever while anything uses the GPU, and from 595 on also where nothing seems to
(nv_pci_remove_helper; open-gpu-kernel-modules issues 1119 and 1374), while `modprobe -r` fails at once and cleanly. So
that driver is left through an unload that succeeded or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hostlerd.model.devices import Function
from hostlerd.model.holders import Grip
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal
from hostlerd.model.settings import DevicePolicy

Leave = Literal["unbind", "unload"]
LEFT_BY_UNLOADING = frozenset({"nvidia"})


def leave(function: Function, policy: DevicePolicy | None) -> Leave:
    wanted = "auto" if policy is None else policy.leave
    if wanted != "auto":
        return wanted
    return "unload" if function.driver in LEFT_BY_UNLOADING else "unbind"


def in_use(grip: Grip | None) -> str | None:
    """The module of the driver's stack that cannot be unloaded now, in words."""
    held = [module for module in grip.modules if module.references > 0] if grip is not None else []
    return f"its module {held[0].name} is in use {held[0].references} times" if held else None


def refuse_unload(
    observed: Observed, claim: str | None, function: Function, leaving: Iterable[Function]
) -> list[Refusal]:
    """Where the module drives what the host keeps, or is built in, it cannot be unloaded."""
    going = {f.address for f in leaving}
    stays = [
        f.address
        for f in observed.functions.values()
        if f.driver == function.driver and f.address not in going
    ]
    if stays:
        return [
            Refusal(
                object=function.address,
                reason=f"{function.address} can leave {function.driver} only when the whole module is unloaded, and "
                f"the host keeps {', '.join(stays)} on it",
                remedy=f"give {stays[0]} to VFIO, too, or to no driver (when_idle), or say in the policy of "
                f'{function.address} leave = "unbind", which may hang until the host is restarted',
                claim=claim,
            )
        ]
    if function.module is None:
        return [
            Refusal(
                object=function.address,
                reason=f"{function.address} can leave {function.driver} only by unloading it, and it is built in",
                remedy='say leave = "unbind" in its policy, which may hang until the host is restarted',
                claim=claim,
            )
        ]
    return []

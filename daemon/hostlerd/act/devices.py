"""Handing PCI functions over: load-module, unload-module, override, unbind, probe.

Every write goes through the writer process, because each takes the device's lock, which a driver's remove() may hold
for
ever. What is read back afterwards: the driver link, the override, and for VFIO the `vfio-dev/` folder (6.1 and newer).
"""

from __future__ import annotations

import os
from dataclasses import replace

from hostler.errors import HostFailed, InUse, TimedOut, Wedged
from hostlerd.host import Host
from hostlerd.model.devices import DEVICES
from hostlerd.model.plan import LoadModule, Override, Probe, Unbind, UnloadModule
from hostlerd.observe.holders import look_for_holders
from hostlerd.observe.pci import is_on_vfio, observe_links

DRIVERS = "/sys/bus/pci/drivers"

LIMIT = 10.0
"""Seconds for one write. A healthy unbind takes well under one; a driver that needs more is stuck for practical use."""
MODULE_LIMIT = 15.0
READ_LIMIT = 5.0


def driver(host: Host, address: str) -> str | None:
    """From the link alone: reading an attribute may block."""
    try:
        return os.path.basename(host.files.readlink(f"{DEVICES}/{address}/driver"))
    except OSError:
        return None


def is_gone(host: Host, address: str) -> bool:
    return not host.files.exists(f"{DEVICES}/{address}")


def _failed(host: Host, address: str, what: str, error: OSError) -> HostFailed:
    if is_gone(host, address):
        return HostFailed(f"{address} is gone: it was taken out meanwhile", data={"object": address})
    if not error.errno:
        return HostFailed(f"{what}: {error}", data={"object": address})
    return HostFailed(
        f"{what}: {os.strerror(error.errno)}",
        remedy="see the kernel's log for the driver's reason",
        data={"object": address, "errno": error.errno},
    )


async def load_module(host: Host, step: LoadModule) -> None:
    status = await host.writer.run(["/sbin/modprobe", step.object], limit=MODULE_LIMIT)
    # A driver may be called as its module is, or with dashes.
    called = {step.driver, step.driver.replace("_", "-"), step.driver.replace("-", "_")}
    missing = bool(step.driver) and not any(host.files.exists(f"{DRIVERS}/{name}") for name in called)
    if status != 0 or missing:
        raise HostFailed(
            f"the module {step.object} cannot be loaded (modprobe exit status {status})",
            remedy=f"install the kernel's {step.object} module, or see `modprobe -v {step.object}`",
            data={"object": step.object},
        )


async def unload_module(host: Host, step: UnloadModule) -> None:
    """Those of its modules that are loaded: modprobe -r fails for one that is not.

    Its exit status is the gate: the kernel refuses to unload what has users, and has done nothing then.
    """
    loaded = [name for name in step.modules if host.files.exists(f"/sys/module/{name}/initstate")]
    status = await host.writer.run(["/sbin/modprobe", "-r", *loaded], limit=MODULE_LIMIT) if loaded else 0
    left = [name for name in step.modules if host.files.exists(f"/sys/module/{name}/initstate")]
    if status or left:
        raise InUse(
            f"the driver cannot be unloaded: {' and '.join(left) or step.object} is in use "
            f"(modprobe exit status {status})",
            remedy="`hostler devices` shows who has the card open; see `lsmod` for what else uses the module",
            data={"object": step.object, "holders": left},
        )


async def override(host: Host, step: Override) -> None:
    path = f"{DEVICES}/{step.object}/driver_override"
    try:
        await host.writer.write(path, (step.after or "") + "\n", limit=LIMIT)
        # Taking the lock that another program's unbind may hold for ever.
        now = (await host.look(lambda: host.files.read(path), limit=READ_LIMIT)).strip()
    except OSError as error:
        raise _failed(host, step.object, f"the override of {step.object} cannot be set", error) from error
    if (None if now in ("", "(null)") else now) != step.after:
        raise HostFailed(
            f"the override of {step.object} is {now}, although {step.after} was written",
            data={"object": step.object},
        )


async def unbind(host: Host, step: Unbind) -> None:
    """From the driver the plan saw: if another one has it by now, nothing is written and the pass looks again."""
    if driver(host, step.object) != step.before:
        return
    try:
        await host.writer.write(f"{DRIVERS}/{step.before}/unbind", step.object, limit=LIMIT)
    except Wedged as wedged:
        raise await _explained(host, step, wedged) from wedged
    except OSError as error:
        raise _failed(host, step.object, f"{step.before} does not let go of {step.object}", error) from error
    if driver(host, step.object) == step.before:
        raise HostFailed(
            f"{step.before} still has {step.object} after its unbind", data={"object": step.object}
        )


async def _explained(host: Host, step: Unbind, wedged: Wedged) -> Wedged:
    """With whoever has it open, as far as names of nodes tell: nothing else of it can be read any more."""
    what = f"{step.before} does not let go of {step.object}"
    try:
        function = await host.look(lambda: observe_links(host.files, step.object), limit=READ_LIMIT)
        # The link to the driver has gone first, and who holds NVIDIA's is known by that.
        function = replace(function, driver=step.before)
        everybody = await look_for_holders(host, [function], limit=READ_LIMIT)
    except TimedOut:
        everybody = ()
    # Somebody who should not have been in its way may be, after all.
    found = [holder for holder in everybody if holder.blocks] or everybody
    if not found:
        return Wedged(
            f"{what}: {wedged.message}", remedy=wedged.remedy, data={**wedged.data, "object": step.object}
        )
    who = ", ".join(dict.fromkeys(f"{holder.told} has {holder.node} open" for holder in found))
    return Wedged(
        f"{what}: {who}",
        remedy="end that, and it goes on by itself; where it does not, only a restart of the host helps",
        data={**wedged.data, "object": step.object, "holders": [holder.told for holder in found]},
    )


async def probe(host: Host, step: Probe) -> None:
    """drivers_probe succeeds when nothing bound (bus_rescan_devices_helper), so only what is read back counts."""
    try:
        await host.writer.write("/sys/bus/pci/drivers_probe", step.object, limit=LIMIT)
    except OSError as error:
        raise _failed(host, step.object, f"{step.object} cannot be probed", error) from error
    now = driver(host, step.object)
    # A VFIO driver may have any name: what makes it one is what it made (vfio_main.c).
    there = is_on_vfio(host.files, f"{DEVICES}/{step.object}", now) if step.to_vfio else now == step.after
    if step.after is not None and not there:
        if is_gone(host, step.object):
            raise HostFailed(
                f"{step.object} is gone: it was taken out meanwhile", data={"object": step.object}
            )
        raise HostFailed(
            f"{step.object} should be on {step.after} after the probe and is on {now or 'no driver'}",
            remedy="see the kernel's log for the driver's reason",
            data={"object": step.object},
        )

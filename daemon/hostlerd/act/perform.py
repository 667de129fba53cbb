"""One step: journalled, performed within its limit, read back, its end journalled.

A step that fails with an answer has ended. One that does not return has not: it stays outstanding in the journal, its
object is untouchable, and nothing of it is read until the write returns after all or somebody says `hostler retry`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from hostler.errors import HostlerError, Wedged
from hostlerd.act import (
    attributes,
    bars,
    clearing,
    device_slices,
    devices,
    hugepages,
    life,
    partitions,
    pins,
    programs,
    quiet,
    rules,
    screens,
    slices,
    usb,
)
from hostlerd.act.journal import Journal
from hostlerd.host import Host
from hostlerd.model.plan import (
    AllowCpus,
    AttachUsb,
    CheckAlive,
    CheckFree,
    CreateMdev,
    DetachUsb,
    EnterScope,
    Framebuffer,
    LoadModule,
    MakeRoom,
    MoveThread,
    Override,
    Pin,
    Probe,
    RemoveFunction,
    RemoveMdev,
    Rescan,
    ResetCard,
    ResizeBar,
    SetAttribute,
    SetHugepages,
    SetPartition,
    SetVfs,
    SetVgpuType,
    StartAgain,
    Step,
    Stop,
    TellBalancer,
    Terminate,
    Unbind,
    UnloadModule,
    WriteRule,
)
from hostlerd.observe.screen import platform_driver

HANDLERS: dict[type[Step], Callable[[Host, Any], Awaitable[None]]] = {
    LoadModule: devices.load_module,
    UnloadModule: devices.unload_module,
    Stop: clearing.stop,
    StartAgain: clearing.start,
    Terminate: clearing.terminate,
    CheckFree: clearing.check_free,
    SetAttribute: attributes.set_attribute,
    SetPartition: partitions.set_partition,
    MoveThread: quiet.move_thread,
    TellBalancer: quiet.tell_balancer,
    Framebuffer: screens.move_framebuffer,
    ResizeBar: bars.resize_bar,
    CheckAlive: life.check_alive,
    ResetCard: life.reset_card,
    RemoveFunction: life.remove_function,
    Rescan: life.rescan,
    Override: devices.override,
    Unbind: devices.unbind,
    Probe: devices.probe,
    SetHugepages: hugepages.set_hugepages,
    MakeRoom: hugepages.make_room,
    AllowCpus: slices.allow_cpus,
    EnterScope: programs.enter_scope,
    WriteRule: rules.write_rule,
    Pin: pins.pin,
    SetVfs: device_slices.set_vfs,
    CreateMdev: device_slices.create_mdev,
    RemoveMdev: device_slices.remove_mdev,
    SetVgpuType: device_slices.set_vgpu_type,
    AttachUsb: usb.attach_usb,
    DetachUsb: usb.detach_usb,
}
WRITTEN_BY_PROCESS = (
    LoadModule,
    UnloadModule,
    Override,
    Unbind,
    Probe,
    SetAttribute,
    SetPartition,
    SetVfs,
    CreateMdev,
    RemoveMdev,
    SetVgpuType,
    Framebuffer,
    ResizeBar,
    ResetCard,
    RemoveFunction,
    Rescan,
    SetHugepages,
    MakeRoom,
)


async def perform(host: Host, journal: Journal, step: Step) -> None:
    """Raises hostler.errors: HostFailed and kin when it ended badly, Wedged when it did not end."""
    record = getattr(step, "record", None)
    if record is not None:
        journal.record(record)
    if isinstance(step, AllowCpus) and step.residue:
        journal.residue(step.object)
    writer = await host.writer.start() if isinstance(step, WRITTEN_BY_PROCESS) else 0
    numbers = _begun(journal, step, writer)
    try:
        await HANDLERS[type(step)](host, step)
    except Wedged:
        raise
    except HostlerError:
        _tried(journal, step)
        _ended(journal, numbers)
        raise
    except BaseException:
        _ended(journal, numbers)
        raise
    _tried(journal, step)
    _ended(journal, numbers)
    if isinstance(step, TellBalancer) and step.after is None:
        journal.settle(step.object)  # what it was told cannot be read from it
    if isinstance(step, StartAgain) and step.container is not None:
        journal.settle(step.object)  # its engine is not asked what runs; starting it twice harms nobody


def _begun(journal: Journal, step: Step, writer: int) -> list[int]:
    """The lines of a step, one for each device that it may hang: all or none. Raises HostFailed without room."""
    numbers: list[int] = []
    objects = [step.object, *(step.addresses if isinstance(step, UnloadModule) else ())]
    for name in objects:
        try:
            number = journal.begin(replace(step, object=name), writer)
        except HostlerError:
            _ended(journal, numbers)
            raise
        numbers.append(number)
    return numbers


def _ended(journal: Journal, numbers: Sequence[int]) -> None:
    for number in numbers:
        journal.end(number)


def _tried(journal: Journal, step: Step) -> None:
    if isinstance(step, ResetCard | Rescan) and step.recovery is not None:
        journal.record(step.recovery)


def is_gone(host: Host, step: Step) -> bool:
    """Whether what the step was to change is not there any more: a card pulled out, a container that ended."""
    if isinstance(step, Override | Unbind | Probe | CheckAlive | ResetCard | SetVfs | SetVgpuType):
        return devices.is_gone(host, step.object)
    if isinstance(step, Framebuffer):
        return platform_driver(host.files, step.object) is None
    if isinstance(step, RemoveMdev):
        return device_slices.is_gone(host, step.object)
    if isinstance(step, AttachUsb):
        return usb.is_gone(host, step.device)
    if isinstance(step, ResizeBar):
        return devices.is_gone(host, step.address)
    if isinstance(step, SetAttribute | SetHugepages | SetPartition):
        return not host.files.exists(step.object)
    return isinstance(step, AllowCpus) and bool(step.path) and not host.files.exists(step.path)

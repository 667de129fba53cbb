"""A `[[slice]]` section, and what a `[[device]]` section says of its virtual functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hostlerd.model.devices import parse_address
from hostlerd.model.settings import SlicePolicy
from hostlerd.settings.places import PLACES, SLICE
from hostlerd.toml_table import Table

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
MOST_VFS = 65535
"""NumVFs has 16 bits."""


def read_vfs(table: Table) -> dict[str, Any]:
    """`vfs` and `keep_vfs`, where they are set."""
    vfs = table.get("vfs", int)
    keep = table.get("keep_vfs", bool)
    if vfs is not None and not 0 <= vfs <= MOST_VFS:
        table.under("vfs").fail(
            f"vfs cannot be {vfs}", remedy="how many the device can have is in sriov_totalvfs"
        )
    if keep and not vfs:
        table.under("keep_vfs").fail("keep_vfs is true, and there is no vfs", remedy="say how many: vfs = 4")
    if vfs and table.values.get("when_idle", "host") != "host":
        table.under("vfs").fail(
            f'the driver of the device makes its VFs, and when_idle = "{table.values["when_idle"]}" takes it away',
            remedy='leave out when_idle, or write when_idle = "host"',
        )
    return {"vfs": vfs, "keep_vfs": keep}


def read_slice(table: Table, before: Sequence[SlicePolicy]) -> SlicePolicy:
    table.allow(SLICE, PLACES)
    type_ = table.text("type", _filled)
    uuid, vf = table.text("uuid", _uuid), table.text("vf", parse_address)
    domain = table.text("domain", _domain)
    name = table.text("name", _filled) or f"slice {len(before) + 1}"
    if type_ is None:
        table.fail(
            f'[[slice]] "{name}" has no type', remedy="`hostler devices` lists the types of each device"
        )
    if uuid is not None and vf is not None:
        table.under("vf").fail("a slice is a mediated device (uuid) or a virtual function (vf), not both")
    if uuid is None and vf is None and domain is None:
        table.fail(
            f'[[slice]] "{name}" does not say whose it is',
            remedy="add one of uuid, vf and domain, or two of them",
        )
    found = SlicePolicy(
        name=name,
        type=type_,
        uuid=uuid,
        vf=vf,
        parent=table.text("parent", _parent),
        domain=domain,
        persistent=table.get("persistent", bool) or False,
    )
    for other in before:
        if other.name == name:
            table.under("name").fail(f'two [[slice]] sections are named "{name}"')
        if (
            (uuid or vf or domain)
            and (other.uuid, other.vf) == (uuid, vf)
            and (uuid or vf or other.domain == domain)
        ):
            table.fail(f'the [[slice]] sections "{other.name}" and "{name}" are about the same slice')
    return found


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("cannot be empty")
    return text


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError(f'"{text}" is not a UUID (such as 4b20d080-1b54-4048-85b3-a6a62d165c01)')
    return str(UUID(text))


def _domain(text: str) -> str:
    """A name as it is, a UUID as libvirt prints it."""
    return str(UUID(text)) if _UUID.fullmatch(text) else _filled(text)


def _parent(text: str) -> str:
    """A PCI address, or the name of a folder in /sys/class/mdev_bus."""
    if "/" in text:
        raise ValueError(f'"{text}" is neither a PCI address nor a name in /sys/class/mdev_bus')
    return parse_address(text) if ":" in text else _filled(text)

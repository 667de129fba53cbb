"""A `[[slice]]` section, and what a `[[device]]` section says of its virtual functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hostlerd.model.devices import parse_address
from hostlerd.model.settings import SlicePolicy
from hostlerd.settings import words
from hostlerd.settings.places import PLACES, SLICE
from hostlerd.toml_table import Table

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
    type_ = table.text("type", words.filled)
    uuid, vf = table.text("uuid", words.uuid), table.text("vf", parse_address)
    domain = table.text("domain", words.domain)
    name = table.text("name", words.filled) or f"slice {len(before) + 1}"
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


def _parent(text: str) -> str:
    """A PCI address, or the name of a folder in /sys/class/mdev_bus."""
    if "/" in text:
        raise ValueError(f'"{text}" is neither a PCI address nor a name in /sys/class/mdev_bus')
    return parse_address(text) if ":" in text else words.filled(text)

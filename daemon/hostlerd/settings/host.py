"""`[host]`."""

from __future__ import annotations

import re

from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.settings import Housekeeping
from hostlerd.settings.places import HOUSEKEEPING, PLACES
from hostlerd.toml_table import Table

_URI = re.compile(r"[a-z]+(?:\+[a-z0-9]+)?://([^/\s]*)/(\S*)")


def libvirt_uri(text: str) -> str:
    match = _URI.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a libvirt URI (such as qemu:///system)')
    if match[1]:
        raise ValueError(f'"{text}" is on another host; hostler looks after this one')
    if match[2].partition("?")[0].strip("/") == "session":
        raise ValueError(
            f'"{text}" is not supported: domains of a user\'s own libvirt run in their session, which is kept off '
            "dedicated CPUs, and call no hook of this host (define them in qemu:///system)"
        )
    return text


def read_libvirt(table: Table) -> tuple[str, ...] | None:
    uris = table.texts("libvirt", libvirt_uri)
    if uris is not None and not uris:
        table.under("libvirt").fail(
            "libvirt names no URI, so there would be no domain to look after",
            remedy='such as ["qemu:///system"]',
        )
    return uris


def read_housekeeping(before: Housekeeping, table: Table | None) -> Housekeeping:
    if table is None:
        return before
    table.allow(HOUSEKEEPING, PLACES)
    cpus = table.text("cpus", parse_cpu_list)
    at_least = table.get("at_least", int)
    if at_least is not None and at_least < 1:
        table.under("at_least").fail(
            f"at_least cannot be {at_least}", remedy="the host itself needs one CPU or more"
        )
    return Housekeeping(
        cpus=before.cpus if cpus is None else cpus,
        at_least=before.at_least if at_least is None else at_least,
    )

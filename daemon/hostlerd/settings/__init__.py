"""Policy files to Settings: /etc/hostler/hostler.toml, then hostler.d/*.toml in the order of their names.

Rules: nothing is guessed. An unknown key, a wrong type or a value that makes no sense is BadInput with file,
line and what was probably meant, and no Settings come back, so that the caller keeps the policy it has. A
later file overrides keys of an earlier one; `[[device]]` and `[[usb]]` sections add up, and the first that matches a
device wins.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from hostler.errors import BadInput
from hostlerd.model.settings import Settings
from hostlerd.settings.claims import read_claims
from hostlerd.settings.device import read_device
from hostlerd.settings.domain import over, read_domain, read_overrides
from hostlerd.settings.host import read_housekeeping, read_libvirt
from hostlerd.settings.places import PLACES
from hostlerd.settings.slices import read_slice
from hostlerd.settings.usb import read_usb
from hostlerd.toml_table import Table, read_table


def load(policy_file: str, policy_directory: str) -> Settings:
    """The policy of a file and of the *.toml files of a folder. What is missing is no error: the defaults hold.

    Raises BadInput (data: file, line, key, nearest; what does not apply is left out).
    """
    settings, overrides = Settings(), dict[str, dict[str, Any]]()
    for path in (policy_file, *_drop_ins(policy_directory)):
        table = read_table(path)
        if table is not None:
            settings = _merged(settings, overrides, table)
    return replace(
        settings,
        overrides={name: over(settings.domains, changes) for name, changes in overrides.items()},
        stated={name: frozenset(changes) for name, changes in overrides.items()},
    )


def _drop_ins(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{directory}: cannot be read: {error.strerror}", data={"file": directory}) from error
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if name.endswith(".toml") and not name.startswith(".")
    ]


def _merged(settings: Settings, overrides: dict[str, dict[str, Any]], table: Table) -> Settings:
    """The settings with one more file on top; overrides are changed in place, as defaults may still follow."""
    table.allow(("host", "domains", "domain", "device", "slice", "usb", "claims"), PLACES)
    host = table.table("host")
    if host is not None:
        host.allow(("libvirt", "housekeeping", "suspend"), PLACES)
        suspend: Any = host.choice("suspend", get_args(get_type_hints(Settings)["suspend"]))
        uris = read_libvirt(host)
        settings = replace(
            settings,
            libvirt=settings.libvirt if uris is None else uris,
            housekeeping=read_housekeeping(settings.housekeeping, host.table("housekeeping")),
            **({"suspend": suspend} if suspend else {}),
        )
    settings = replace(settings, claims=read_claims(settings.claims, table.table("claims")))
    domains = table.table("domains")
    if domains is not None:
        settings = replace(settings, domains=over(settings.domains, read_domain(domains)))
    for name, changes in read_overrides(table):
        before = overrides.setdefault(name, {})
        isolation = {**before.get("isolation", {}), **changes.get("isolation", {})}
        before |= changes | ({"isolation": isolation} if isolation else {})
    for device in table.tables("device"):
        policy = read_device(device, number=len(settings.devices) + 1)
        if policy.name in {known.name for known in settings.devices}:
            device.under("name").fail(f'two [[device]] sections are named "{policy.name}"')
        settings = replace(settings, devices=(*settings.devices, policy))
    for table_of_slice in table.tables("slice"):
        settings = replace(settings, slices=(*settings.slices, read_slice(table_of_slice, settings.slices)))
    for usb in table.tables("usb"):
        rule = read_usb(usb, number=len(settings.usb) + 1)
        if rule.name in {known.name for known in settings.usb}:
            usb.under("name").fail(f'two [[usb]] sections are named "{rule.name}"')
        settings = replace(settings, usb=(*settings.usb, rule))
    return settings

"""What a card needs beside its driver, on the simulated host: which VFIO driver, its screen, reset, BARs, life."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio.testing
from tests.unit.daemon.stable import stable

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import LAB
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

CARD = "0000:01:00.0"


def lab(libvirt: int = 11_003_000) -> SimulatedHost:
    return SimulatedHost(replace(LAB, libvirt=libvirt), parse=parse_domain, limit=60.0)


def drivers(host: SimulatedHost) -> dict[str, str | None]:
    return {address: device["driver"] for address, device in host.show()["devices"].items()}


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize(("libvirt", "driver"), [(9_000_000, "vfio-pci"), (11_003_000, "labvfio")])
async def test_a_card_goes_to_its_variant_where_libvirt_knows_them(
    tmp_path: Path, libvirt: int, driver: str, managed: bool, autojump_clock: trio.testing.MockClock
):
    host = lab(libvirt)
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[CARD], managed=managed))
        await host.hypervisor.start("win11")
        await one.settle()
        assert drivers(host)[CARD] == driver
        assert drivers(host)["0000:01:00.1"] == "vfio-pci"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.show()["devices"] == before
        assert not one.journal.ledger.devices

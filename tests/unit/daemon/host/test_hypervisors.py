"""Several connections as one: what is about a domain goes to the connection that has it."""

from __future__ import annotations

import pytest

from hostler.errors import HostFailed
from hostlerd.host.hypervisors import Hypervisors
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio


async def test_definitions_go_where_the_domain_is() -> None:
    hosts = [SimulatedHost("desktop", parse=parse_domain) for _ in range(2)]
    for host, name in zip(hosts, ("one", "two"), strict=True):
        await host.hypervisor.define(domain(name))
    both = Hypervisors([host.hypervisor for host in hosts])
    with pytest.raises(HostFailed, match="no libvirt connection"):
        await both.definition_xml(hosts[1].hypervisor.domains["two"].uuid)
    await both.running()
    uuids = {d.name: d.uuid for d in await both.inactive()}
    for host, name in zip(hosts, ("one", "two"), strict=True):
        text = await both.definition_xml(uuids[name])
        assert parse_domain(text).name == name
        await both.redefine(uuids[name], text.replace(">4096<", ">2048<"))
        assert ">2048<" in (host.hypervisor.domains[name].inactive or "")
    await hosts[0].hypervisor.start("one")
    await both.running()
    device = "<hostdev type='pci'><source><address bus='0x3f'/></source></hostdev>"
    for call in (both.plug, both.unplug):
        with pytest.raises(HostFailed, match="3f"):
            await call(uuids["one"], device)
        with pytest.raises(HostFailed, match="not running"):
            await call(uuids["two"], device)

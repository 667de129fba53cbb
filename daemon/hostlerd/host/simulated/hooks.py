"""libvirt's calls of its qemu hook (https://libvirt.org/hooks.html), one after the other, everybody else waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from hostler.errors import HostFailed
from hostlerd.host.simulated.domains import Domain
from hostlerd.host.simulated.libvirtd import Libvirtd

Hook = Callable[[str, str, str, str], Awaitable[tuple[int, str]]]
"""(name, operation, sub-operation, XML) to exit status and standard error."""


async def no_hook(_name: str, _operation: str, _sub_operation: str, _xml: str) -> tuple[int, str]:
    """No hook is installed."""
    await trio.lowlevel.checkpoint()
    return 0, ""


class Hooks:
    def __init__(self, libvirtd: Libvirtd, hook: Hook) -> None:
        self._libvirtd = libvirtd
        self.hook = hook

    async def call(self, domain: Domain, operation: str, sub_operation: str) -> tuple[int, str]:
        """While a hook runs, every call about a domain blocks, listing too (measured on libvirt 9.0 and 11.3)."""
        self._libvirtd.hold("hook")
        try:
            return await self.hook(domain.name, operation, sub_operation, domain.text)
        finally:
            self._libvirtd.release("hook")

    async def need(self, domain: Domain, operation: str, sub_operation: str) -> None:
        """As `call`; a status that is not 0 is HostFailed in libvirt's words (virHookCall, virCommandWait)."""
        status, words = await self.call(domain, operation, sub_operation)
        if status:
            raise HostFailed(
                "Hook script execution failed: internal error: Child process (LC_ALL=C PATH=/usr/sbin:/usr/bin "
                f"/etc/libvirt/hooks/qemu.d/hostler {domain.name} {operation} {sub_operation} -) "
                f"unexpected exit status {status}: {words}",
                data={"object": domain.name},
            )

"""The udev rule file. udevd notices changed rules by itself (systemd-udevd, event_reload)."""

from __future__ import annotations

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.plan import WriteRule


async def write_rule(host: Host, step: WriteRule) -> None:
    try:
        await host.writer.replace_file(step.object, step.text)
        now = host.files.read(step.object) if host.files.exists(step.object) else None
    except OSError as error:
        raise HostFailed(
            f"{step.object} cannot be written: {error.strerror}",
            data={"object": step.object, "errno": error.errno},
        ) from error
    if now != step.text:
        raise HostFailed(f"{step.object} does not hold what was written", data={"object": step.object})

"""One value of a kernel file, written through the writer process and read back."""

from __future__ import annotations

import os

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.plan import SetAttribute

LIMIT = 5.0


async def set_attribute(host: Host, step: SetAttribute) -> None:
    path, wanted = step.object, step.after or ""
    try:
        await host.writer.write(path, wanted + "\n", limit=LIMIT)
        now = (await host.look(lambda: host.files.read(path), limit=LIMIT)).strip()
    except OSError as error:
        raise HostFailed(
            f"{path} cannot be set to {wanted}: {os.strerror(error.errno or 0)}",
            data={"object": path, "errno": error.errno},
        ) from error
    if now != wanted:
        raise HostFailed(f"{path} is {now}, although {wanted} was written", data={"object": path})

"""One value of a kernel file, written through the writer process and read back."""

from __future__ import annotations

import os

from hostler.errors import HostFailed, Unsupported
from hostlerd.host import Host
from hostlerd.model.plan import SetAttribute
from hostlerd.observe.tuning import shown

LIMIT = 5.0


async def set_attribute(host: Host, step: SetAttribute) -> None:
    """Raises HostFailed; Unsupported where it cannot be changed, as the step allows for."""
    path, wanted = step.object, step.after or ""
    try:
        await host.writer.write(path, wanted + "\n", limit=LIMIT)
        now = await host.look(lambda: shown(host.files, path), limit=LIMIT)
    except OSError as error:
        if error.errno in step.tolerated:
            raise Unsupported(
                f"{path} cannot be changed: {os.strerror(error.errno)}", data={"object": path}
            ) from error
        raise HostFailed(
            f"{path} cannot be set to {wanted}: {os.strerror(error.errno or 0)}",
            data={"object": path, "errno": error.errno},
        ) from error
    if now is None:
        raise HostFailed(f"{path} is gone", data={"object": path})
    if now != wanted:
        raise HostFailed(f"{path} is {now}, although {wanted} was written", data={"object": path})

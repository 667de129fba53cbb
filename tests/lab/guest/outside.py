"""Asking the harness, outside the guest, for a command of QEMU's monitor."""

import itertools
import json
import os
from typing import Any

from .programs import Failed, wait_until

REQUESTS = "/host/requests"
REPLIES = "/host/replies"
_numbers = itertools.count(1)


def qmp(command: str, **arguments: Any) -> Any:
    """What QEMU answers, for example to `qmp("device_add", driver="secondary-vga", bus="rp4", id="hot1")`.

    Raises:
        Failed: QEMU refuses or nobody answers.
    """
    name = f"{os.getpid()}-{next(_numbers)}.json"
    with open(f"{REQUESTS}/{name}.new", "w", encoding="utf-8") as file:
        json.dump({"execute": command, "arguments": arguments}, file)
    os.rename(f"{REQUESTS}/{name}.new", f"{REQUESTS}/{name}")
    reply = f"{REPLIES}/{name}"
    wait_until(lambda: os.path.exists(reply), 60.0, f"an answer to {command}")
    with open(reply, encoding="utf-8") as file:
        answer = json.load(file)
    if "error" in answer:
        raise Failed(answer["error"])
    return answer["return"]


def end() -> None:
    """The machine is gone, as when its cord is pulled; the shared folder keeps everything."""
    qmp("quit")

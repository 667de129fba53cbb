"""Running the tools that make an image."""

import os
import subprocess

LIMIT = 1800.0


class ImageFailed(Exception):
    """The guest's disk could not be made; the message has the tool's own words."""


def run(command: list[str]) -> None:
    """Raises ImageFailed when the tool fails."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        raise ImageFailed(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")

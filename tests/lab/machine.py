"""One guest: a disk, a shared folder, and boots one after the other.

- The disk is a sparse copy of the image, thrown away in the end; a second boot finds what the first left.
- `-no-reboot`: a guest that reboots or panics ends QEMU. Booting it again is the caller's decision.
- The guest asks for what only the outside can do (plugging a card) with files: it writes `requests/N.json`, finds the
  answer in `replies/N.json`. Files are written under another name and renamed, so none is read half-written.
- Nothing waits without a limit, and QEMU never outlives `boot`, nor the process that called it.
"""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass

from lab import hardware
from lab.image import Image
from lab.qmp import Qmp, QmpError

POLL = 0.2


class BootFailed(Exception):
    """The guest did not come up, hung or crashed; the message has the end of its console."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    image: Image
    folder: str
    firmware: hardware.Firmware = "seabios"

    @property
    def share(self) -> str:
        """What the guest sees as /host."""
        return os.path.join(self.folder, "share")

    @property
    def disk(self) -> str:
        return os.path.join(self.folder, "disk.img")

    def create(self) -> None:
        """A fresh disk and an empty share, whatever was there before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("requests", "replies"):
            os.makedirs(os.path.join(self.share, name))
        copy = ["cp", "--sparse=always", "--reflink=auto", self.image.disk, self.disk]
        subprocess.run(copy, check=True, timeout=300.0)

    def discard(self) -> None:
        """The disk is gone; console, output and results stay for whoever asks why."""
        if os.path.exists(self.disk):
            os.unlink(self.disk)

    def boot(self, *, name: str, start_limit: float, limit: float) -> None:
        """Run the guest until it powers off.

        `name` names the logs: NAME.console.log, NAME.out.log. `start_limit` is for the guest to reach its scenarios
        (it makes the file `started` in the share), `limit` for everything.

        Raises:
            BootFailed: a limit passed, or QEMU ended with an error or before the scenarios began.
        """
        started = os.path.join(self.share, "started")
        if os.path.exists(started):
            os.unlink(started)
        command, monitor = self._command(name)
        if os.path.exists(monitor):
            os.unlink(monitor)
        begin = time.monotonic()
        with open(os.path.join(self.folder, f"{name}.qemu.log"), "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                seconds = time.monotonic() - begin
                if seconds > start_limit and not os.path.exists(started):
                    raise self._failure(name, f"did not reach its scenarios in {start_limit:.0f} s")
                if seconds > limit:
                    raise self._failure(name, f"was not done in {limit:.0f} s")
                self._answer(monitor)
                time.sleep(POLL)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode or not os.path.exists(started):
            raise self._failure(name, f"ended QEMU with {process.returncode}")

    def _command(self, name: str) -> tuple[list[str], str]:
        # The path of a UNIX socket may have 107 characters: relative to the folder is always short enough.
        monitor = os.path.relpath(os.path.join(self.folder, "qmp.sock"))
        logs = (os.path.join(self.folder, f"{name}.{kind}.log") for kind in ("console", "out"))
        serial = [word for log in logs for word in ("-serial", f"file:{log}")]
        return [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
            *hardware.arguments(self.firmware),
            *("-kernel", self.image.kernel, "-initrd", self.image.ramdisk),
            *("-drive", f"file={self.disk},format=raw,if=virtio,cache=unsafe"),
            *("-virtfs", f"local,path={self.share},mount_tag=share,security_model=none"),
            *("-no-reboot", *serial, "-qmp", f"unix:{monitor},server,nowait"),
        ], monitor

    def _answer(self, monitor: str) -> None:
        folder = os.path.join(self.share, "requests")
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".json"):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                request = json.load(file)
            os.unlink(os.path.join(folder, name))
            try:
                with Qmp(monitor) as qmp:
                    reply = {"return": qmp.execute(request["execute"], **request["arguments"])}
            except (QmpError, OSError) as error:
                reply = {"error": str(error)}
            target = os.path.join(self.share, "replies", name)
            with open(f"{target}.new", "w", encoding="utf-8") as file:
                json.dump(reply, file)
            os.rename(f"{target}.new", target)

    def _failure(self, name: str, what: str) -> BootFailed:
        ends = []
        for kind in ("qemu", "console", "out"):
            path = os.path.join(self.folder, f"{name}.{kind}.log")
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    ends.append(f"--- end of {path}\n{file.read()[-3000:]}")
        return BootFailed(f"The guest {what}.\n" + "\n".join(ends))

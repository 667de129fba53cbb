"""A client of QEMU's monitor protocol: one JSON object a line on a UNIX socket.

Blocking, with a limit on every wait; events are read past. https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

import json
import socket
from types import TracebackType
from typing import Any, Self


class QmpError(Exception):
    """QEMU refused the command; the message is its description."""


class Qmp:
    def __init__(self, path: str, *, limit: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(limit)
            self._socket.connect(path)
            self._lines = self._socket.makefile("rb")
        except BaseException:
            self._socket.close()
            raise
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """What the command returns.

        Raises:
            QmpError: QEMU says no.
            TimeoutError, ConnectionError: no answer.
        """
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionError("QEMU closed its monitor")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

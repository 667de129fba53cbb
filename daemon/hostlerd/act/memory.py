"""What is remembered of cards across restarts of the host: /var/lib/hostler/devices.json.

Rules: written anew, whole and atomically, when something is learned, once in a card's life as a rule. It can be
lost without harm: then what is there is learned again. So a disk that is full is said and no more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from types import MappingProxyType

from hostler.errors import HostlerError
from hostler.wire import STATE_DIRECTORY
from hostlerd.host import Host
from hostlerd.model.devices import Function
from hostlerd.model.identity import Known, identity

log = logging.getLogger(__name__)

FILE = f"{STATE_DIRECTORY}/devices.json"
LIMIT = 5.0
NOTHING: Mapping[str, Known] = MappingProxyType({})


class Memory:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._loaded = False
        self.known: Mapping[str, Known] = NOTHING

    async def wait_loaded(self) -> None:
        """What cannot be read is as if it was never there."""
        if self._loaded:
            return
        try:
            text = await self._host.look(lambda: self._host.files.read(FILE), limit=LIMIT)
            self.known = {address: Known(**value) for address, value in json.loads(text).items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, HostlerError) as error:
            log.warning("%s is of no use and is made anew: %s", FILE, error)
        self._loaded = True

    async def learn(self, found: Mapping[str, Known]) -> None:
        if found:
            await self._keep({**self.known, **found})

    async def forget(self, address: str) -> None:
        await self._keep({a: known for a, known in self.known.items() if a != address})

    def with_serials(self, functions: Mapping[str, Function]) -> Mapping[str, Function]:
        """The functions, with the serial that a driver told earlier where none can tell it now."""
        changed = {
            address: replace(functions[address], serial=known.serial)
            for address, known in self.known.items()
            if known.serial is not None
            and address in functions
            and functions[address].serial is None
            and identity(functions[address]) == known.identity
        }
        return {**functions, **changed} if changed else functions

    async def _keep(self, known: Mapping[str, Known]) -> None:
        self.known = known
        text = json.dumps({address: asdict(one) for address, one in sorted(known.items())}, indent=1) + "\n"
        try:
            await self._host.writer.replace_file(FILE, text)
        except (OSError, HostlerError) as error:
            log.warning("%s cannot be written: %s", FILE, error)

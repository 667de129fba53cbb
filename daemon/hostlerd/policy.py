"""The policy in force: read at the start and on SIGHUP or `hostler reload`.

A policy that cannot be read never replaces one that could. At the start there is none to keep: then the defaults are in
force (nothing is bound that libvirt does not ask for) and status says why.
"""

from __future__ import annotations

import logging
import time

from hostler.errors import BadInput
from hostlerd.act.journal import Journal
from hostlerd.host import Host
from hostlerd.model.ledger import Trouble
from hostlerd.model.settings import Settings
from hostlerd.options import Options
from hostlerd.reconcile import Reconciler
from hostlerd.settings import load

log = logging.getLogger(__name__)

LIMIT = 5.0


class Policy:
    def __init__(self, host: Host, journal: Journal, options: Options) -> None:
        self._host, self._journal, self._options = host, journal, options
        self.settings = Settings()

    async def start(self) -> Settings:
        try:
            self.settings = await self._read()
        except BadInput as error:
            log.error("%s", error.sentence)
            self._journal.trouble(
                Trouble(object="policy", reason=error.message, remedy=error.remedy, since=time.time())
            )
        return self.settings

    async def reload(self, reconciler: Reconciler) -> bool:
        """True if it differs from what was in force. Raises BadInput; then what was in force stays."""
        settings = await self._read()
        changed = settings != self.settings
        self.settings = settings
        reconciler.apply(settings)
        return changed

    async def _read(self) -> Settings:
        files = (self._options.policy, self._options.policy_directory)
        settings = await self._host.look(lambda: load(*files), limit=LIMIT)
        self._journal.forgive("policy")
        return settings

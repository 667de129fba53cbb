"""The request barrier: a fault of ours in one request ends that request and nothing else.

The daemon's one catch-all for requests; every face goes through it. Whoever asked is told an id, the log has the
traceback under the same id.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from hostler.errors import HostlerError, Internal
from hostlerd.api import Json, Peer, Service

log = logging.getLogger(__name__)


async def answer(service: Service, peer: Peer, method: str, params: Mapping[str, Any]) -> Json:
    """The service's answer. Raises HostlerError; cancellation passes through and makes the service roll back."""
    try:
        return await service.call(peer, method, params)
    except HostlerError:
        raise
    except Exception as error:
        fault = secrets.token_hex(4)
        log.exception("request %s of uid %s failed, id %s", method, peer.uid, fault)
        raise Internal(
            f"hostlerd made a mistake in `{method}` ({type(error).__name__}, id {fault})",
            remedy=f"report it with what `journalctl -u hostlerd --grep {fault}` shows",
            data={"id": fault},
        ) from error

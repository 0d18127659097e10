"""A message queue as ``server_options['client_manager']`` shows it, and as processes use it that serve nobody."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._json import Codec
    from ._native import Emitter

log = logging.getLogger("flask_shardcast")


class Queue:
    """Where the queue is, and under which channel the processes meet."""

    def __init__(self, url: str, channel: str, write_only: bool) -> None:
        self.url = url
        self.channel = channel
        self.write_only = write_only
        self._emitter: Emitter | None = None
        self._lock = threading.Lock()

    def emit(self, event: str, data: Any, namespace: str, to: list[str] | None, skip: list[str] | None, codec: Codec | None,
             default: Any) -> None:
        """Sends an event through the queue. What goes wrong is logged, as in Flask-SocketIO: whoever sends does not fail for it."""
        try:
            self._connected().emit(event, data, namespace, to, skip, codec, default)
        except OSError as error:
            log.error("the message queue has not taken %r: %s", event, error)

    def enter_room(self, sid: str, room: str, namespace: str) -> None:
        self._connected().enter_room(sid, room, namespace)

    def leave_room(self, sid: str, room: str, namespace: str) -> None:
        self._connected().leave_room(sid, room, namespace)

    def close_room(self, room: str, namespace: str, client: None = None) -> None:
        self._connected().close_room(room, namespace)

    def disconnect(self, sid: str, namespace: str) -> None:
        self._connected().disconnect(sid, namespace)

    def _connected(self) -> Emitter:
        # On first use: a process that imports the application, and sends nothing, needs no broker.
        with self._lock:
            if self._emitter is None:
                from ._native import Emitter
                self._emitter = Emitter(self.url, self.channel)
            return self._emitter

"""Namespaces whose handlers are the methods of a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._server import Server
    from ._socketio import SocketIO


class Namespace:
    """A namespace: its methods ``on_<event>`` are the handlers. Give an instance to :meth:`SocketIO.on_namespace`."""

    def __init__(self, namespace: str | None = None) -> None:
        self.namespace: str = namespace or "/"
        #: Set when the namespace is registered.
        self.server: Any = None
        self.socketio: Any = None

    def _set_server(self, server: Server | None) -> None:
        self.server = server

    def _set_socketio(self, socketio: SocketIO) -> None:
        self.socketio = socketio

    def is_asyncio_based(self) -> bool:
        return False

    def trigger_event(self, event: str, *args: Any) -> Any:
        """Finds the method of an event, and calls it: a class that wants other rules has a method of this name.

        The first argument is the socket's id; what follows are the arguments of the event.
        """
        handler = getattr(self, "on_" + (event or ""), None)
        if handler is None:
            return None
        try:
            return self.socketio._handle_event(handler, event, self.namespace, *args)
        except Exception as error:
            on_error: Callable[[Exception], Any] | None = getattr(self, "error", None)
            if on_error is None:
                raise
            return on_error(error)

    def emit(self, event: str, data: Any = None, room: Any = None, include_self: bool = True,
             namespace: str | None = None, callback: Callable[..., Any] | None = None, *, to: Any = None,
             skip_sid: Any = None) -> None:
        """Sends an event to this namespace, or to one of its rooms."""
        self.socketio.emit(event, data, to=to or room, include_self=include_self, skip_sid=skip_sid,
                           namespace=namespace or self.namespace, callback=callback)

    def send(self, data: Any, room: Any = None, include_self: bool = True, namespace: str | None = None,
             callback: Callable[..., Any] | None = None, *, to: Any = None, skip_sid: Any = None) -> None:
        """Sends a ``message`` to this namespace, or to one of its rooms."""
        self.socketio.send(data, to=to or room, include_self=include_self, skip_sid=skip_sid,
                           namespace=namespace or self.namespace, callback=callback)

    def call(self, event: str, data: Any = None, to: str | None = None, sid: str | None = None,
             namespace: str | None = None, timeout: float | None = None, ignore_queue: bool = False) -> Any:
        """Sends an event to one client, and waits for its answer."""
        return self.server.call(event, data, to=to or sid, namespace=namespace or self.namespace,
                                timeout=60 if timeout is None else timeout, ignore_queue=ignore_queue)

    def close_room(self, room: Any, namespace: str | None = None) -> None:
        """Has everybody leave a room."""
        self.socketio.close_room(room=room, namespace=namespace or self.namespace)

    def enter_room(self, sid: str, room: Any, namespace: str | None = None) -> None:
        """Puts a client into a room."""
        self.server.enter_room(sid, room, namespace=namespace or self.namespace)

    def leave_room(self, sid: str, room: Any, namespace: str | None = None) -> None:
        """Takes a client out of a room."""
        self.server.leave_room(sid, room, namespace=namespace or self.namespace)

    def rooms(self, sid: str, namespace: str | None = None) -> list:
        """The rooms that a client is in."""
        return self.server.rooms(sid, namespace=namespace or self.namespace)

    def get_session(self, sid: str, namespace: str | None = None) -> dict:
        """python-socketio's session of a client."""
        return self.server.get_session(sid, namespace=namespace or self.namespace)

    def save_session(self, sid: str, session: dict, namespace: str | None = None) -> None:
        """Replaces python-socketio's session of a client."""
        self.server.save_session(sid, session, namespace=namespace or self.namespace)

    def session(self, sid: str, namespace: str | None = None) -> Any:
        """python-socketio's session of a client, saved at the end of a ``with``."""
        return self.server.session(sid, namespace=namespace or self.namespace)

    def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """Ends a client in this namespace."""
        self.server.disconnect(sid, namespace=namespace or self.namespace)

"""``socketio.server``, as applications use it: python-socketio's names on the core.

What people reach through it most is there: rooms and who is in them, environments, sessions, options to be read back. What belongs to
the inside of python-socketio is refused with a sentence that says what to use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ._context import current
from ._errors import timed_out
from ._rooms import name_of, room_of

if TYPE_CHECKING:
    from ._native import Client, Core
    from ._socketio import SocketIO

log = logging.getLogger("flask_shardcast")


class Server:
    """What applications use of ``socketio.server``."""

    class reason:
        """Why a client is gone, as disconnect handlers are told."""

        CLIENT_DISCONNECT = "client disconnect"
        SERVER_DISCONNECT = "server disconnect"
        PING_TIMEOUT = "ping timeout"
        TRANSPORT_CLOSE = "transport close"
        TRANSPORT_ERROR = "transport error"

    def __init__(self, owner: SocketIO, options: dict[str, Any]) -> None:
        self._owner = owner
        self.options = options
        self.async_mode = "threading"
        self.async_handlers = bool(options.get("async_handlers", True))
        self.always_connect = bool(options.get("always_connect", False))
        self.logger = logging.getLogger("flask_shardcast.socketio")
        self.manager = Manager(owner)
        self.eio = Engine(owner, options)
        self.environ = Environs(owner)

    # Tables that may be looked at

    @property
    def handlers(self) -> dict[str, dict[str, Callable[..., Any]]]:
        return self._owner._handlers

    @property
    def namespace_handlers(self) -> dict[str, Any]:
        return self._owner._namespaces

    # Sending

    def emit(self, event: str, data: Any = None, to: Any = None, room: Any = None, skip_sid: Any = None, namespace: str | None = None,
             callback: Callable[..., Any] | None = None, ignore_queue: bool = False) -> None:
        self._owner._emit(event, data, namespace or "/", to or room, skip_sid, callback, ignore_queue)

    def send(self, data: Any, to: Any = None, room: Any = None, skip_sid: Any = None, namespace: str | None = None,
             callback: Callable[..., Any] | None = None, ignore_queue: bool = False) -> None:
        self.emit("message", data, to, room, skip_sid, namespace, callback, ignore_queue)

    def call(self, event: str, data: Any = None, to: str | None = None, sid: str | None = None, namespace: str | None = None,
             timeout: float = 60, ignore_queue: bool = False) -> Any:
        target = to or sid
        if target is None:
            raise ValueError("Cannot use call() to broadcast.")
        if not self.async_handlers and self._core.is_in_handler():
            raise RuntimeError("Cannot use call() within a handler when async_handlers is False: its client's answer would wait behind it.")
        args = self._core.call(event, data, namespace or "/", name_of(target), float(timeout))
        if args is None:
            raise timed_out(f"{target!r} has not answered {event!r} within {timeout} s, or is not there")
        return args if len(args) > 1 else args[0] if args else None

    # Rooms and clients

    def enter_room(self, sid: str, room: Any, namespace: str | None = None) -> None:
        self._rooms.enter_room(sid, name_of(room), namespace or "/")

    def leave_room(self, sid: str, room: Any, namespace: str | None = None) -> None:
        self._rooms.leave_room(sid, name_of(room), namespace or "/")

    def close_room(self, room: Any, namespace: str | None = None) -> None:
        handled = current.get(None)
        self._rooms.close_room(name_of(room), namespace or "/", handled and handled.client)

    def rooms(self, sid: str, namespace: str | None = None) -> list[Any]:
        return [room_of(name) for name in self._core.rooms(sid, namespace or "/")]

    def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        self._rooms.disconnect(sid, namespace or "/")

    def transport(self, sid: str, namespace: str | None = None) -> str | None:
        """How a client is connected now: ``polling`` or ``websocket``."""
        return self._core.transport(sid, namespace or "/")

    def get_environ(self, sid: str, namespace: str | None = None) -> dict | None:
        return self.environ.get(sid)

    # python-socketio's sessions: a dict for each client and namespace

    def get_session(self, sid: str, namespace: str | None = None) -> dict:
        return self._client(sid).session

    def save_session(self, sid: str, session: dict, namespace: str | None = None) -> None:
        kept = self._client(sid).session
        if kept is not session:
            kept.clear()
            kept.update(session)

    @contextmanager
    def session(self, sid: str, namespace: str | None = None) -> Iterator[dict]:
        session = self.get_session(sid, namespace)
        yield session
        self.save_session(sid, session, namespace)

    # Tasks

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._owner.start_background_task(target, *args, **kwargs)

    def sleep(self, seconds: float = 0) -> None:
        self._owner.sleep(seconds)

    # Registration by python-socketio's names

    def on(self, event: str, handler: Callable[..., Any] | None = None, namespace: str | None = None) -> Any:
        """A handler that is given the socket's id first, as python-socketio's are."""
        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._owner.on(event, namespace=namespace)(_with_sid(function))
            return function
        return register if handler is None else register(handler)

    def register_namespace(self, namespace_handler: Any) -> None:
        self._owner.on_namespace(namespace_handler)

    def instrument(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError(
            "server.instrument() is not there: the core shows Socket.IO's admin page itself. Start with --admin-ui=development "
            "--admin-ui-auth=loopback, or SHARDCAST_ADMIN_UI; docs/admin-ui.md has more"
        )

    def __getattr__(self, name: str) -> Any:
        advice = _INSIDE.get(name, "it belongs to the inside of python-socketio, which is not here")
        raise AttributeError(f"socketio.server.{name}: {advice}")

    @property
    def _core(self) -> Core:
        return self._owner._need_core()

    @property
    def _rooms(self) -> Any:
        """What changes rooms: the core, or the queue in a process that only sends."""
        queue = self.options.get("client_manager")
        if self._owner._core is None and getattr(queue, "write_only", False):
            return queue
        return self._core

    def _client(self, sid: str) -> Client:
        client = self._core.client(sid)
        if client is None:
            raise KeyError(sid)
        return client


_INSIDE = {
    "_send_packet": "packets are made by the core; use emit()",
    "_send_eio_packet": "packets are made by the core; use emit()",
    "handle_request": "the core serves HTTP itself: start with socketio.run(app), or `python -m flask_shardcast module:app`",
    "attach": "the core serves HTTP itself: start with socketio.run(app), or `python -m flask_shardcast module:app`",
    "shutdown": "use socketio.stop()",
}


def _with_sid(function: Callable[..., Any]) -> Callable[..., Any]:
    import flask

    def handler(*args: Any) -> Any:
        return function(flask.request.sid, *args)  # type: ignore[attr-defined]
    return handler


class Engine:
    """``server.eio``: options to be read back, and a way to end a connection."""

    def __init__(self, owner: SocketIO, options: Mapping[str, Any]) -> None:
        self._owner = owner
        self.async_mode = "threading"
        self.async_handlers = bool(options.get("async_handlers", True))
        self.ping_interval_grace_period = 0
        self.logger = logging.getLogger("flask_shardcast.engineio")
        for name, default in _ENGINE_DEFAULTS.items():
            value = options.get(name)
            setattr(self, name, default if value is None and default is not None else value)

    @property
    def sockets(self) -> Environs:
        """As many as there are connections; its keys are ids of clients."""
        return self._owner.server.environ

    def disconnect(self, sid: str | None = None) -> None:
        if sid is not None:
            self._owner._need_core().disconnect(sid, "/")

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._owner.start_background_task(target, *args, **kwargs)

    def sleep(self, seconds: float = 0) -> None:
        self._owner.sleep(seconds)


_ENGINE_DEFAULTS = {
    "allow_upgrades": True, "compression_threshold": 1024, "cookie": None, "cors_allowed_origins": None, "cors_credentials": True,
    "http_compression": True, "max_http_buffer_size": 1_000_000, "ping_interval": 25, "ping_timeout": 20,
    "transports": ["polling", "websocket"],
}


class Environs(Mapping):
    """The WSGI environments of clients, by the ids of their sockets."""

    def __init__(self, owner: SocketIO) -> None:
        self._owner = owner
        #: Ids of connections in tests, which have none on the wire.
        self.aliases: dict[str, str] = {}

    def __getitem__(self, sid: str) -> dict:
        from ._context import environ_of
        core = self._owner._core
        client = core.client(self.aliases.get(sid, sid)) if core is not None else None
        if client is None:
            raise KeyError(sid)
        return environ_of(client, self._owner.app)

    def __iter__(self) -> Iterator[str]:
        core = self._owner._core
        return iter(core.clients() if core is not None else ())

    def __len__(self) -> int:
        core = self._owner._core
        return core.connections() if core is not None else 0


class Manager:
    """``server.manager``: who is in which room."""

    def __init__(self, owner: SocketIO) -> None:
        self._owner = owner

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """The clients in a room, or in the namespace if the room is None; twice each, where python-socketio has an inner id."""
        name = None if room is None else name_of(room)
        for sid in self._owner._need_core().participants(namespace, name):
            yield sid, sid

    def is_connected(self, sid: str, namespace: str) -> bool:
        core = self._owner._core
        client = core.client(sid) if core is not None else None
        return client is not None and client.namespace == namespace

    def get_namespaces(self) -> list[str]:
        return [namespace for namespace in self._owner._registered() if namespace != "*"]

    def get_rooms(self, sid: str, namespace: str) -> list[Any]:
        return self._owner.server.rooms(sid, namespace)

    @property
    def rooms(self) -> Mapping[str, Mapping[Any, Mapping[str, str]]]:
        """``rooms[namespace][room]`` is a mapping with the members, asked for at each look; it cannot be changed."""
        return NamespacesOfRooms(self)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"socketio.server.manager.{name}: it belongs to the inside of python-socketio, which is not here; there are "
                             "get_participants(), get_rooms(), is_connected() and rooms")


class NamespacesOfRooms(Mapping):
    """The namespaces, each with its rooms."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def __getitem__(self, namespace: str) -> Rooms:
        return Rooms(self._manager, namespace)

    def __iter__(self) -> Iterator[str]:
        return iter(self._manager.get_namespaces())

    def __len__(self) -> int:
        return len(self._manager.get_namespaces())


class Rooms(Mapping):
    """The rooms of a namespace, each with its members. None is the room of everybody."""

    def __init__(self, manager: Manager, namespace: str) -> None:
        self._manager = manager
        self._namespace = namespace

    def _counts(self) -> dict[str, int]:
        return self._manager._owner._need_core().room_counts(self._namespace)

    def __getitem__(self, room: Any) -> dict[str, str]:
        members = dict(self._manager.get_participants(self._namespace, room))
        if not members and room is not None:
            raise KeyError(room)
        return members

    def __contains__(self, room: object) -> bool:
        return room is None or name_of(room) in self._counts()

    def __iter__(self) -> Iterator[Any]:
        yield None
        yield from (room_of(name) for name in self._counts())

    def __len__(self) -> int:
        return len(self._counts()) + 1

"""The functions of Flask-SocketIO that know whose event is being handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask

from ._context import current

if TYPE_CHECKING:
    from ._socketio import SocketIO


def _owner() -> SocketIO:
    event = current.get(None)
    app = flask.current_app if event is None else event.app
    return app.extensions["socketio"]


def _sid() -> str:
    event = current.get(None)
    return flask.request.sid if event is None else event.client.sid  # type: ignore[attr-defined]


def _namespace() -> str:
    event = current.get(None)
    return flask.request.namespace if event is None else event.client.namespace  # type: ignore[attr-defined]


def _where(options: dict[str, Any]) -> tuple[str, Any]:
    """The namespace and the receivers: the own client, unless it is said otherwise."""
    namespace = options["namespace"] if "namespace" in options else _namespace()
    to = options.get("to") or options.get("room")
    if to is None and not options.get("broadcast"):
        to = _sid()
    return namespace, to


def emit(event: str, *args: Any, **kwargs: Any) -> None:
    """Sends an event: to the client whose event is being handled, or as ``to``, ``broadcast``, ``include_self``, ``skip_sid`` and
    ``namespace`` say. ``callback`` is called with the client's answer."""
    namespace, to = _where(kwargs)
    owner = _owner()
    if owner._is_plain and len(args) == 1 and "include_self" not in kwargs:
        # What most handlers do, without a layer in between.
        return owner._emit(event, args[0], namespace, to, kwargs.get("skip_sid"), kwargs.get("callback"))
    return owner.emit(event, *args, namespace=namespace, to=to, include_self=kwargs.get("include_self", True),
                         skip_sid=kwargs.get("skip_sid"), callback=kwargs.get("callback"),
                         ignore_queue=kwargs.get("ignore_queue", False))


def send(message: Any, **kwargs: Any) -> None:
    """Sends a ``message``, or with ``json=True`` a ``json`` event; the rest is as in :func:`emit`."""
    namespace, to = _where(kwargs)
    return _owner().send(message, json=kwargs.get("json", False), namespace=namespace, to=to,
                         include_self=kwargs.get("include_self", True), skip_sid=kwargs.get("skip_sid"),
                         callback=kwargs.get("callback"), ignore_queue=kwargs.get("ignore_queue", False))


def call(event: str, *args: Any, **kwargs: Any) -> Any:
    """Sends an event to one client, that of the event or ``to``, and waits up to ``timeout`` seconds for its answer."""
    namespace, to = _where({**kwargs, "broadcast": False})
    return _owner().call(event, *args, namespace=namespace, to=to, timeout=kwargs.get("timeout", 60),
                         ignore_queue=kwargs.get("ignore_queue", False))


def join_room(room: Any, sid: str | None = None, namespace: str | None = None) -> None:
    """Puts the client into a room."""
    _owner().server.enter_room(sid or _sid(), room, namespace or _namespace())


def leave_room(room: Any, sid: str | None = None, namespace: str | None = None) -> None:
    """Takes the client out of a room."""
    _owner().server.leave_room(sid or _sid(), room, namespace or _namespace())


def close_room(room: Any, namespace: str | None = None) -> None:
    """Has everybody leave a room."""
    _owner().server.close_room(room, namespace or _namespace())


def rooms(sid: str | None = None, namespace: str | None = None) -> list[Any]:
    """The rooms that the client is in; one has the name of its own id."""
    return _owner().server.rooms(sid or _sid(), namespace or _namespace())


def disconnect(sid: str | None = None, namespace: str | None = None, silent: bool = False) -> None:
    """Ends the client in this namespace."""
    _owner().server.disconnect(sid or _sid(), namespace or _namespace())



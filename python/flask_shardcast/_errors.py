"""What this package raises, under the names of Flask-SocketIO and python-socketio."""

from __future__ import annotations

import sys
from typing import Any


class SocketIOError(Exception):
    """The base of the errors here."""


class ConnectionRefusedError(SocketIOError):
    """Raised by a connect handler: the client is refused, and told the arguments.

    The first argument is the message, and what follows goes to the client as its data.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.error_args = refusal_of(args)


class TimeoutError(SocketIOError):
    """The client of a ``call`` has not answered in time, or is not there."""


def refusal_of(args: tuple[Any, ...]) -> dict[str, Any]:
    """What a refused client is told, made of the arguments of the exception."""
    if not args:
        return {"message": "Connection rejected by server"}
    told: dict[str, Any] = {"message": str(args[0])}
    if len(args) > 1:
        told["data"] = args[1] if len(args) == 2 else list(args[1:])
    return told


def refused_by(error: BaseException) -> dict[str, Any] | None:
    """What a client is told that this exception refuses; None when the exception is no refusal."""
    if isinstance(error, ConnectionRefusedError):
        return error.error_args
    # An application may raise python-socketio's own, if that is installed.
    theirs = getattr(sys.modules.get("socketio.exceptions"), "ConnectionRefusedError", None)
    if theirs is not None and isinstance(error, theirs):
        return getattr(error, "error_args", None) or refusal_of(error.args)
    return None


def timed_out(text: str) -> TimeoutError:
    """The exception of a ``call``: python-socketio's as well, where an application catches that one."""
    theirs = getattr(sys.modules.get("socketio.exceptions"), "TimeoutError", None)
    if theirs is None:
        return TimeoutError(text)
    both = type("TimeoutError", (TimeoutError, theirs), {"__module__": __name__})
    return both(text)

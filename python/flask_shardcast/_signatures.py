"""Handlers of connect and disconnect that may leave out their argument.

Flask-SocketIO calls them with it, and again without it after any TypeError, so that a TypeError within a handler runs it twice. Here
the handler's signature is looked at, once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

_takes_one: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def call(handler: Callable[..., Any], event: str | None, args: tuple) -> Any:
    """Calls a handler with what it takes of its event's arguments; connect has two, of which the second is the auth."""
    if event == "connect":
        return call_with(handler, args[1] if len(args) > 1 else None)
    if event == "disconnect":
        return call_with(handler, args[0] if args else None)
    return handler(*args)


def call_with(handler: Callable[..., Any], argument: Any) -> Any:
    """Calls a handler with one argument, or without."""
    return handler(argument) if takes_one(handler) else handler()


def takes_one(handler: Callable[..., Any]) -> bool:
    """Whether it can be called with one argument; asked for each connection, so the answer is kept."""
    function = getattr(handler, "__func__", handler)
    try:
        known = _takes_one.get(function)
    except TypeError:
        return takes(handler, 1)
    if known is None:
        known = _takes_one[function] = takes(handler, 1)
    return known


def takes(handler: Callable[..., Any], arguments: int) -> bool:
    """Whether it can be called with so many arguments. What has no signature can."""
    try:
        inspect.signature(handler).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:
        return True
    return True

"""Names of rooms: the core knows texts, and Python has rooms of any kind.

A number is a room of its own, another than the text of the same digits: ``1`` is not ``'1'``. On the way to the core it gets a first
character that no name has that people choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_NUMBER = "\x01"


def name_of(room: Any) -> str:
    """What the core calls a room."""
    if isinstance(room, str):
        return room
    if isinstance(room, (int, float)):
        return f"{_NUMBER}{room!r}"
    raise TypeError(f"a room is a str or a number, not {type(room).__name__}: {room!r}")


def room_of(name: str) -> Any:
    """What Python calls it."""
    if not name.startswith(_NUMBER):
        return name
    digits = name[1:]
    try:
        return int(digits)
    except ValueError:
        return {"True": True, "False": False}.get(digits) if digits in ("True", "False") else float(digits)


def names_of(rooms: Any) -> list[str] | None:
    """What ``to`` and ``skip_sid`` may be: a room, or a list, tuple or set of them. None is everybody."""
    if rooms is None:
        return None
    if isinstance(rooms, str):
        return [rooms]
    if isinstance(rooms, Iterable):
        return [name_of(room) for room in rooms]
    return [name_of(rooms)]

"""``SocketIO(json=..)``: a module of the application's that reads and writes JSON in place of the native one."""

from __future__ import annotations

from typing import Any


class Codec:
    """Reads and writes the arguments of packets by a module's ``loads`` and ``dumps``.

    The native half calls it for each packet, so it costs what the module costs. Bytes never reach the module: they travel beside the
    text, and in it are placeholders.
    """

    def __init__(self, module: Any) -> None:
        self._loads = module.loads
        self._dumps = module.dumps

    def read(self, raw: str, attachments: list[bytes]) -> tuple:
        """The arguments that stand in a text, without the brackets around them."""
        args = self._loads(f"[{raw}]")
        return tuple(_filled(arg, attachments) for arg in args) if attachments else tuple(args)

    def write(self, args: tuple) -> tuple[str, list[bytes]]:
        """The text of some arguments, without brackets, and the bytes in them."""
        attachments: list[bytes] = []
        text = self._dumps([_emptied(arg, attachments) for arg in args], separators=(",", ":"))
        if isinstance(text, bytes):
            text = text.decode()
        return text.strip()[1:-1], attachments


def _filled(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, dict):
        if value.get("_placeholder") is True and isinstance(value.get("num"), int) and 0 <= value["num"] < len(attachments):
            return attachments[value["num"]]
        return {key: _filled(member, attachments) for key, member in value.items()}
    if isinstance(value, list):
        return [_filled(item, attachments) for item in value]
    return value


def _emptied(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, (bytes, bytearray)):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, dict):
        return {key: _emptied(member, attachments) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_emptied(item, attachments) for item in value]
    return value

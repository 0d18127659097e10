"""What the core logs, as records of `logging`.

A shard must not wait for Python, so its lines go through a bounded queue, and a thread of its own makes records of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

#: Targets of the core's lines, and the loggers that they go to.
_SOCKETIO = "shardcast::socketio"
_ENGINEIO = "shardcast::engineio"

_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO, "DEBUG": logging.DEBUG, "TRACE": 5}

_loggers: dict[str, logging.Logger] = {}
_thread: threading.Thread | None = None


def forward(options: Mapping[str, Any]) -> None:
    """Starts the thread, and says which loggers the lines go to: those that the application gave as `logger` and `engineio_logger`."""
    global _thread
    _show_somewhere()
    _loggers[_SOCKETIO] = _given(options.get("logger"), "flask_shardcast.socketio")
    _loggers[_ENGINEIO] = _given(options.get("engineio_logger"), "flask_shardcast.engineio")
    if _thread is None:
        _thread = threading.Thread(target=_pass_on, name="flask-shardcast-log", daemon=True)
        _thread.start()


def _given(logger: Any, name: str) -> logging.Logger:
    if isinstance(logger, logging.Logger):
        return logger
    own = logging.getLogger(name)
    # `logger=True`: whatever level the root has. The core leaves out what was not asked for.
    own.setLevel(logging.DEBUG if logger else logging.WARNING)
    return own


def _show_somewhere() -> None:
    """A program that has not set up logging sees where the server listens, and what is wrong."""
    own = logging.getLogger("flask_shardcast")
    if not own.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        own.addHandler(handler)
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)


def _pass_on() -> None:
    from ._native import next_line
    while True:
        level, target, text = next_line()
        logger = _loggers.get(target) or next(
            (_loggers[known] for known in (_SOCKETIO, _ENGINEIO) if target.startswith(known)), logging.getLogger("flask_shardcast")
        )
        number = _LEVELS.get(level, logging.INFO)
        if logger.isEnabledFor(number):
            logger.log(number, "%s", text)

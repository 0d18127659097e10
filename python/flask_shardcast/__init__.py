"""Flask-SocketIO applications on shardcast, a Socket.IO server in Rust.

An application runs unchanged with ``python -m flask_shardcast app.py``; or it imports from here what it imported from
``flask_socketio``.
"""

from ._errors import ConnectionRefusedError, SocketIOError, TimeoutError
from ._functions import call, close_room, disconnect, emit, join_room, leave_room, rooms, send
from ._hook import install
from ._namespace import Namespace
from ._socketio import SocketIO
from ._test_client import SocketIOTestClient

__all__ = [
    "ConnectionRefusedError", "Namespace", "SocketIO", "SocketIOError", "SocketIOTestClient", "TimeoutError", "call", "close_room",
    "disconnect", "emit", "install", "join_room", "leave_room", "rooms", "send",
]
__version__ = "0.1.0"

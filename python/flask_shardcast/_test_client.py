"""``SocketIO.test_client``: clients on the shards of a real server, which run in the test's own thread.

Nothing waits and nothing is a thread: what a test does is over, with all that follows from it, when the call returns.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import flask
from flask.testing import EnvironBuilder

from . import _context

if TYPE_CHECKING:
    from ._native import Kit, KitClient
    from ._socketio import SocketIO


class SocketIOTestClient:
    """One client, which may be in several namespaces. The methods are those of Flask-SocketIO's test client."""

    clients: dict[str, SocketIOTestClient] = {}

    def __init__(self, app: flask.Flask, socketio: SocketIO, namespace: str | None = None, query_string: str | None = None,
                 headers: Any = None, auth: Any = None, flask_test_client: Any = None) -> None:
        queue = socketio.server_options.get("client_manager")
        if queue is not None:
            raise RuntimeError("Test client cannot be used with a message queue. Disable the queue on your test configuration.")
        self.app = app
        self.socketio = socketio
        self.flask_test_client = flask_test_client
        self.eio_sid = uuid.uuid4().hex
        self._peers: dict[str, KitClient] = {}
        self._kit = kit_of(socketio)
        self.connect(namespace, query_string=query_string, headers=headers, auth=auth)

    def is_connected(self, namespace: str | None = None) -> bool:
        """Whether the client is in a namespace."""
        peer = self._peers.get(namespace or "/")
        return peer is not None and peer.is_connected()

    def connect(self, namespace: str | None = None, query_string: str | None = None, headers: Any = None, auth: Any = None) -> None:
        """Connects to a namespace; if it is refused, :meth:`is_connected` says so."""
        namespace = namespace or "/"
        dispatcher = self.socketio._dispatcher
        with _Raising(self.socketio, self._kit):
            first = next((peer for peer in self._peers.values() if peer.is_connected()), None)
            if first is None:
                dispatcher.next_environ = self._environ(query_string, headers)
            try:
                peer = self._kit.connect(namespace, auth) if first is None else first.join(namespace, auth)
            finally:
                dispatcher.next_environ = None
        if peer is None:
            self._peers.pop(namespace, None)
            return
        self._peers[namespace] = peer
        self.socketio.server.environ.aliases[self.eio_sid] = peer.sid
        client = self.socketio._core.client(peer.sid)
        if client is not None and self.socketio.manage_session:
            # Elsewhere the copy of the session is made when a handler first looks; tests look at the copy.
            with _context.EventContext(self.app, client, None, (), True) as context:
                context.session  # noqa: B018

    def disconnect(self, namespace: str | None = None) -> None:
        """Leaves a namespace."""
        peer = self._peer(namespace)
        with _Raising(self.socketio, self._kit):
            peer.disconnect()
        del self._peers[namespace or "/"]

    def emit(self, event: str, *args: Any, **kwargs: Any) -> Any:
        """Sends an event. With ``callback=True`` the answer is returned: a value, or a list of several."""
        peer = self._peer(kwargs.pop("namespace", None))
        with _Raising(self.socketio, self._kit):
            if not kwargs.pop("callback", False):
                peer.emit(event, args)
                return None
            answer = peer.call(event, args)
        if answer is None:
            return None
        return answer[0] if len(answer) == 1 else list(answer)

    def send(self, data: Any, json: bool = False, callback: bool = False, namespace: str | None = None) -> Any:
        """Sends a ``message``, or with ``json=True`` a ``json`` event."""
        return self.emit("json" if json else "message", data, callback=callback, namespace=namespace)

    def get_received(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """What has come in a namespace since the last call: a dict of name, args and namespace for each event."""
        peer = self._peer(namespace)
        received = []
        for name, args in peer.received():
            bare = name in ("message", "json") and args
            received.append({"name": name, "args": args[0] if bare else list(args), "namespace": namespace or "/"})
        return received

    def advance(self, seconds: float) -> None:
        """Lets time pass for the server: pings, timeouts. Not in Flask-SocketIO."""
        with _Raising(self.socketio, self._kit):
            self._kit.advance(seconds)

    def _peer(self, namespace: str | None) -> KitClient:
        self._kit.settle()
        if not self.is_connected(namespace):
            raise RuntimeError("not connected")
        return self._peers[namespace or "/"]

    def _environ(self, query_string: str | None, headers: Any) -> dict:
        url = "/socket.io"
        if query_string:
            url += query_string if query_string[0] == "?" else "?" + query_string
        browser = self.flask_test_client
        if browser is None:
            environ = EnvironBuilder(self.app, path=url, headers=headers).get_environ()
        else:
            environ = browser._request_from_builder_args(args=(), kwargs={"path": url, "headers": headers}).environ
            if hasattr(browser, "_add_cookies_to_wsgi"):
                browser._add_cookies_to_wsgi(environ)
            else:
                # Flask 2.2
                browser.cookie_jar.inject_wsgi(environ)
        environ["flask.app"] = self.app
        return environ


def kit_of(socketio: SocketIO) -> Kit:
    """The server of a test: one for all clients of a SocketIO."""
    if socketio._kit is None:
        from . import _options
        core = socketio._make_core(2)
        variables = {f"SHARDCAST_{name.upper()}": value for name, value in _options.settings(socketio.server_options).items()}
        shards = os.environ.get("SHARDCAST_SHARDS", "1")
        variables["SHARDCAST_SHARDS"] = shards
        socketio._kit = core.test(variables=variables, namespaces=socketio._patterns())
        socketio._core = core
    return socketio._kit


class _Raising:
    """What a handler raised is raised by the call that had it run."""

    def __init__(self, socketio: SocketIO, kit: Kit) -> None:
        self._dispatcher = socketio._dispatcher
        self._kit = kit

    def __enter__(self) -> None:
        # What the test did before, from outside, comes first.
        self._kit.settle()
        self._dispatcher.raised = []

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        raised, self._dispatcher.raised = self._dispatcher.raised, None
        if error is None and raised:
            raise raised[0]

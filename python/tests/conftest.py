"""What the tests share: applications, and servers of their own on free ports."""

import socket
import threading
import time

import flask
import pytest

from flask_shardcast import SocketIO, _run

#: Longer than anything that ends takes on a busy machine.
PATIENCE_SECONDS = 30


@pytest.fixture
def app():
    app = flask.Flask(__name__, static_folder=None)
    app.config["SECRET_KEY"] = "secret"
    return app


@pytest.fixture
def socketio(app):
    return SocketIO(app)


class Served:
    """A server that runs in this process."""

    def __init__(self, socketio, app, options):
        self.socketio = socketio
        options.setdefault("shards", 2)
        self.url = _run.start(socketio, app, "127.0.0.1", free_port(), options)[0]
        self.address = self.url.partition("://")[2]

    def stop(self):
        _run.stop(self.socketio)


@pytest.fixture
def serve():
    """Starts servers, and ends them after the test."""
    servers = []

    def start(socketio, app, **options):
        servers.append(Served(socketio, app, options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect():
    """Stock clients: python-socketio's."""
    import socketio
    clients = []

    def make(url, namespace="/", transports=("websocket",), **options):
        client = socketio.Client(reconnection=False)
        clients.append(client)
        client.connect(url, namespaces=[namespace], transports=list(transports), wait_timeout=PATIENCE_SECONDS, **options)
        return client

    yield make
    for client in clients:
        client.disconnect()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(holds, what="it"):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what} has not come about"
        time.sleep(0.01)


class Gate:
    """Lets a handler wait until the test says so."""

    def __init__(self):
        self._open = threading.Event()
        self.entered = threading.Semaphore(0)

    def wait(self):
        self.entered.release()
        assert self._open.wait(PATIENCE_SECONDS)

    def await_entered(self):
        assert self.entered.acquire(timeout=PATIENCE_SECONDS)

    def open(self):
        self._open.set()

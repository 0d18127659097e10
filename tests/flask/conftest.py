"""One application, two servers: Flask-SocketIO, and shardcast through the wheel that scripts/test-python.sh has installed.

Tests that take the fixture `side` run on both, so that what is asked of shardcast is what Flask-SocketIO does.
"""

import os
import pathlib
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_SECONDS = 15
#: Nothing stays behind when the tests are ended by force.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# A crowd of clients, and a server of them that inherits this.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
SIDES = ("flask-socketio", "shardcast")


def interpreter(side):
    """The Python of a virtual environment that has that server."""
    name = {"flask-socketio": "FLASK_PYTHON", "shardcast": "FRONT_PYTHON"}[side]
    if name not in os.environ:
        pytest.fail(f"{name} is not set: run the suites through scripts/test-python.sh")
    return os.environ[name]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(what, holds, seconds=PATIENCE_SECONDS):
    """Until it holds; what it was at last."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


class Server:
    """An application that runs. `app` is a file, or `module:name` in `folder`; what it prints is kept."""

    def __init__(self, side, app, *arguments, folder=HERE / "apps", log, port=None, options=(), **environment):
        self.side, self.port, self.log = side, port or free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        launcher = ["-m", "flask_shardcast", *options] if side == "shardcast" else []
        words = [str(word).replace("{port}", str(self.port)) for word in (*launcher, app, *arguments)]
        self.process = subprocess.Popen(
            [*DIES_WITH_US, interpreter(side), "-u", *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=open(log, "w"),
            stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONFAULTHANDLER": "1", "SERVER_SIDE": side, **environment},
        )

    def wait(self, path="/socket.io/?EIO=4&transport=polling"):
        """Until it answers."""

        def answers():
            assert self.process.poll() is None, f"{self.side} ended:\n{self.said()}"
            try:
                return requests.get(self.url + path, timeout=5).status_code < 500
            except requests.RequestException:
                return False

        wait_until(f"{self.side} answers", answers, 30)
        return self

    def said(self):
        return pathlib.Path(self.log).read_text(errors="replace")

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self):
        """With all that it started: a reloader has a process of its own."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(params=SIDES)
def side(request):
    return request.param


@pytest.fixture
def start(tmp_path):
    """Starts applications, and stops them at the end."""
    servers = []

    def start(side, app, *arguments, wait=True, **options):
        server = Server(side, app, *arguments, log=tmp_path / f"server-{len(servers)}.log", **options)
        servers.append(server)
        return server.wait() if wait else server

    yield start
    for server in servers:
        server.stop()
        print(f"--- {server.side} said:\n{server.said()[-4000:]}")


@pytest.fixture
def connect():
    """Opens python-socketio clients, and disconnects them at the end."""
    import socketio

    clients = []

    def connect(url, namespace="/", transports=("websocket",), on=(), **options):
        client = socketio.Client(reconnection=False, handle_sigint=False)
        clients.append(client)
        client.got = []
        client.on("*", lambda event, *args: client.got.append((event, *args)), namespace=namespace)
        client.on("disconnect", lambda reason: client.got.append(("disconnect", reason)), namespace=namespace)
        for event, handler in dict(on).items():
            client.on(event, handler, namespace=namespace)
        client.connect(url, namespaces=[namespace], transports=list(transports), wait_timeout=PATIENCE_SECONDS, **options)
        return client

    yield connect
    for client in clients:
        # The client waits for the server's close, and Flask-SocketIO does not always close.
        threading.Thread(target=client.disconnect, daemon=True).start()

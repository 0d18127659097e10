"""A server that is restarted on its port, and a message that is too large: stock Python clients come back."""

import os
import pathlib
import socket
import subprocess
import tempfile
import time

import pytest
import requests
import socketio

from conftest import TRANSPORTS, WAIT_SECONDS

BINARY = os.environ.get("CONFORMANCE_BIN", "target/release/examples/conformance")
ROOT = pathlib.Path(__file__).parents[3]
CLIENTS = 6

pytestmark = pytest.mark.skipif(os.environ.get("TARGET") == "reference", reason="the npm server loses these clients")


class Server:
    """A server of the test's own."""

    def __init__(self, settings):
        with socket.create_server(("127.0.0.1", 0)) as held:
            self.address = "127.0.0.1:%d" % held.getsockname()[1]
        self.settings = settings
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.start()

    def start(self):
        arguments = [ROOT / BINARY, "--bind", self.address, "--shards", "2"]
        self.process = subprocess.Popen(arguments, env={**os.environ, **self.settings}, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                requests.get(f"http://{self.address}/hello", timeout=1)
                return
            except requests.RequestException:
                time.sleep(0.02)
        raise TimeoutError("the server does not listen")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(15) == 0


@pytest.fixture(params=[{}, {"SHARDCAST_SHUTDOWN_SPREAD": "1s"}], ids=["at once", "spread"])
def server(request):
    server = Server(request.param)
    yield server
    server.process.kill()
    server.process.wait()


def until(what, attempt, seconds=20):
    deadline = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def test_everybody_comes_back_after_a_restart(server):
    clients = []
    for number in range(CLIENTS):
        transports = list(TRANSPORTS.values())[number % len(TRANSPORTS)]
        client = socketio.Client(reconnection_delay=0.5, reconnection_delay_max=2)
        client.connect(f"http://{server.address}", transports=transports, wait_timeout=WAIT_SECONDS)
        clients.append(client)
    before = [client.get_sid() for client in clients]
    time.sleep(0.3)  # every poll is pending
    server.stop()
    server.start()
    for number, client in enumerate(clients):
        until(f"client {number} is back", lambda: client.connected and client.get_sid() not in (None, before[number]))
        assert client.call("message-with-ack", number, timeout=WAIT_SECONDS) == number
    server.log.seek(0)
    log = server.log.read()
    assert "ERROR" not in log and "inbox" not in log, log
    for client in clients:
        client.disconnect()


def test_a_body_that_is_too_large_costs_the_session_and_not_the_client(url):
    client = socketio.Client(reconnection_delay=0.5, reconnection_delay_max=2)
    client.connect(url, transports=["polling"], wait_timeout=WAIT_SECONDS)
    before = client.get_sid()
    client.emit("message", "x" * 1_000_001)
    until("the client is back", lambda: client.connected and client.get_sid() not in (None, before))
    assert client.call("message-with-ack", "later", timeout=WAIT_SECONDS) == "later"
    client.disconnect()

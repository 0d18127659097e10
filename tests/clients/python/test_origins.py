"""What stock Python clients say of their origin: websocket-client names the server's own, as a page of the server does."""

import os

import pytest
import socketio

from conftest import TRANSPORTS, WAIT_SECONDS

pytestmark = pytest.mark.skipif(os.environ.get("TARGET") == "reference", reason="the reference has no such endpoint")


@pytest.mark.parametrize("way", TRANSPORTS)
def test_a_list_of_origins_lets_stock_clients_in(url, way):
    client = socketio.Client(reconnection=False)
    client.connect(url, transports=TRANSPORTS[way], socketio_path="listed.io", wait_timeout=WAIT_SECONDS)
    try:
        assert client.call("message-with-ack", "x", timeout=WAIT_SECONDS) == "x"
    finally:
        client.disconnect()


@pytest.mark.parametrize("origin, may_connect", [
    ("https://app.example", True),
    ("https://evil.example", False),
    ("http://127.0.0.1", False),
    ("null", False),
])
def test_a_client_that_names_another_origin_is_let_in_if_it_is_listed(url, origin, may_connect):
    client = socketio.Client(reconnection=False)
    options = {"transports": ["polling"], "socketio_path": "listed.io", "headers": {"Origin": origin}}
    if may_connect:
        client.connect(url, wait_timeout=WAIT_SECONDS, **options)
        client.disconnect()
    else:
        with pytest.raises(socketio.exceptions.ConnectionError):
            client.connect(url, wait_timeout=WAIT_SECONDS, **options)

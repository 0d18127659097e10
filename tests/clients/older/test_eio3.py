"""python-socketio 4.6.1, which speaks Engine.IO 3, on a server with allow_eio3."""

import os
import queue

import pytest
import socketio

WAIT_SECONDS = 8
URL = os.environ["OLDER_URL"]
pytestmark = pytest.mark.skipif(os.environ.get("TARGET") == "reference", reason="the reference does not allow EIO3")


@pytest.fixture(params=[["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"])
def connect(request):
    clients = []

    def connect(namespace="/"):
        client = socketio.Client(reconnection=False)
        clients.append(client)
        client.inboxes = {}
        for name in ("auth", "message-back", "room-event", "disconnect"):
            client.inboxes[name] = queue.Queue()
            client.on(name, lambda *args, inbox=client.inboxes[name]: inbox.put(args), namespace=namespace)
        client.connect(URL, transports=request.param, namespaces=[namespace])
        client.inboxes["auth"].get(timeout=WAIT_SECONDS)
        return client

    yield connect
    for client in clients:
        client.disconnect()


@pytest.mark.parametrize("namespace", ["/", "/custom"])
def test_events_come_back_as_they_went(connect, namespace):
    client = connect(namespace)
    for row in [("one",), (1, "żółć 🦀 \u2028", {"3": [True, None]}), (b"\x00\xff", "between", bytes(range(256)))]:
        client.emit("message", row, namespace=namespace)
        assert client.inboxes["message-back"].get(timeout=WAIT_SECONDS) == row
        answer = client.call("message-with-ack", row, namespace=namespace, timeout=WAIT_SECONDS)
        assert (answer if len(row) > 1 else (answer,)) in (row, list(row))


def test_a_room_hears_in_order(connect):
    clients = [connect(), connect()]
    for client in clients:
        assert client.call("join", "older python", timeout=WAIT_SECONDS) is True
    for number in range(30):
        value = "🦀" * number if number % 2 else bytes([number])
        clients[0].emit("room", ("older python", number, value))
    for client in clients:
        for number in range(30):
            value = "🦀" * number if number % 2 else bytes([number])
            assert client.inboxes["room-event"].get(timeout=WAIT_SECONDS) == (number, value)


def test_the_server_says_goodbye(connect):
    client = connect()
    client.emit("kick-me")
    client.inboxes["disconnect"].get(timeout=WAIT_SECONDS)


def test_its_pings_keep_it(connect):
    client = connect()
    client.sleep(2.5)
    assert client.call("message-with-ack", "still here", timeout=WAIT_SECONDS) == "still here"


def test_values_with_bytes_read_by_a_handler_come_back(connect):
    client = connect()
    for tree in [b"\x00\xff", {"list": [1, b"7", {"deep": [b"ab"]}], "none": None}, [[], {}, "x"]]:
        assert client.call("any", tree, timeout=WAIT_SECONDS) == tree
    assert client.call("given", timeout=WAIT_SECONDS) == "missing"

"""python-socketio with `serializer='msgpack'`, next to one without, and `websockets` with compression."""

import asyncio
import os

import pytest
import socketio
import websockets

from conftest import WAIT_SECONDS, Inbox

pytestmark = pytest.mark.skipif(os.environ.get("TARGET") == "reference", reason="Node serves one parser a server")

ROWS = [
    ("one",),
    (1, "2", {"3": [True]}),
    (None, False, -1.5, 2**63, -(2**63), "żółć 🦀 \u2028 \x1e \x00"),
    (b"\x00\x01\xff", "between", bytes(range(256)) * 40),
    ({"nested": [{"bytes": b"abc"}, b""]},),
]


@pytest.fixture
def variants_url():
    return os.environ["VARIANTS_URL"]


@pytest.fixture
def open_client(variants_url, transports):
    clients = []

    def open_client(serializer="msgpack", **options):
        client = socketio.Client(reconnection=False, serializer=serializer)
        clients.append(client)
        client.inboxes = {}
        for name in ("auth", "message-back", "room-event", "answer", "disconnect"):
            client.inboxes[name] = Inbox()
            client.on(name, client.inboxes[name])
        client.on("question", lambda number: {"doubled": number * 2, "bytes": b"\x00"})
        client.connect(variants_url, transports=transports, wait_timeout=WAIT_SECONDS, **options)
        return client

    yield open_client
    for client in clients:
        client.disconnect()


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_events_come_back_as_they_went(open_client, row):
    client = open_client()
    client.emit("message", row)
    assert client.inboxes["message-back"].first() == [row]
    answer = client.call("message-with-ack", row, timeout=WAIT_SECONDS)
    assert (tuple(answer) if len(row) > 1 else answer) == (row if len(row) > 1 else row[0])


def test_auth_questions_and_an_end(open_client):
    client = open_client(auth={"token": "ś3cret"})
    assert client.inboxes["auth"].first() == [({"token": "ś3cret"},)]
    client.emit("ask-me")
    assert client.inboxes["answer"].first() == [({"doubled": 84, "bytes": b"\x00"},)]
    client.emit("kick-me")
    client.inboxes["disconnect"].first()


def test_a_refusal_has_its_data(variants_url, transports):
    client, refusals = socketio.Client(reconnection=False, serializer="msgpack"), Inbox()
    client.on("connect_error", refusals, namespace="/refuse")
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(variants_url, transports=transports, namespaces=["/refuse"], wait_timeout=WAIT_SECONDS)
    assert refusals.first() == [({"message": "unauthorized", "data": {"retry": False}},)]


def test_both_serializers_share_a_room(open_client):
    clients = [open_client(serializer) for serializer in ("msgpack", "default", "msgpack", "default")]
    room = f"python-{id(clients)}"
    for client in clients:
        assert client.call("join", room, timeout=WAIT_SECONDS) is True
    for index, client in enumerate(clients):
        client.emit("room", (room, {"from": index, "blob": bytes([index]) * 2000}))
    for client in clients:
        seen = sorted(client.inboxes["room-event"].first(len(clients)), key=lambda args: args[0]["from"])
        assert seen == [({"from": index, "blob": bytes([index]) * 2000},) for index in range(len(clients))]


def test_websockets_compresses_both_ways(variants_url):
    async def scenario():
        async with websockets.connect(f"{variants_url.replace('http', 'ws')}/ws") as websocket:
            assert [extension.name for extension in websocket.protocol.extensions] == ["permessage-deflate"]
            for data in ("é" * 100_000, bytes(200_000), "", os.urandom(5000), "small"):
                await websocket.send(data)
                assert await websocket.recv() == data

    asyncio.run(asyncio.wait_for(scenario(), WAIT_SECONDS))


TREES = [
    b"\x00\xff\x07",
    [b"", [[b"ab"]], "between"],
    {"name": "a.png", "data": b"5" * 2000, "meta": {"sizes": [1, 2.5, None, True], "thumbs": [{"data": b"1"}]}},
    {"żółć 🦀 \u2028": [{"deep": {"deeper": [b"9", {}]}}]},
    {"num": 0, "_placeholder": False, "list": []},
    "no bytes at all",
    None,
]


@pytest.mark.parametrize("serializer", ["default", "msgpack"])
def test_values_with_bytes_read_by_a_handler_come_back(open_client, serializer):
    client = open_client(serializer)
    client.inboxes["any-back"] = Inbox()
    client.on("any-back", client.inboxes["any-back"])
    for tree in TREES:
        assert client.call("any", tree, timeout=WAIT_SECONDS) == tree
        assert client.inboxes["any-back"].first() == [(tree, 7)]
        client.inboxes["any-back"].seen.clear()
    assert client.call("given", timeout=WAIT_SECONDS) == "missing"
    assert client.call("given", (None,), timeout=WAIT_SECONDS) == "null"
    assert client.call("given", {"data": [b"x"]}, timeout=WAIT_SECONDS) == {"data": [b"x"]}


@pytest.mark.parametrize("serializer", ["default", "msgpack"])
def test_arguments_are_kept_and_sent_on(open_client, serializer):
    client = open_client(serializer)
    client.call("keep", (1, {"data": b"3"}), timeout=WAIT_SECONDS)
    assert list(client.call("keep", timeout=WAIT_SECONDS)) == [1, {"data": b"3"}]
    assert list(client.call("relay-later", ("a", [b"4"], None), timeout=WAIT_SECONDS)) == ["a", [b"4"], None]

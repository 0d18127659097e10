"""python-socketio's synchronous client (requests and websocket-client).

This client runs each event's handler on a thread of its own, so the order in which they finish is its own affair:
here an event must come once, and the asyncio suite looks at the order.
"""

import threading
import time

import pytest
import socketio

from conftest import WAIT_SECONDS, Inbox

ROWS = [
    ("one",),
    (1, "2", {"3": [True]}),
    (None, False, 0, -1.5, "żółć 🦀 \u2028 \x1e \x00"),
    ({"deep": [{"deeper": [None, {}]}]}, []),
    (b"\x00\x01\xff", "between", bytes(range(256)) * 40),
    ({"nested": [{"bytes": b"abc"}, b""]},),
]


def test_connects_with_its_auth_and_a_secret_engine_sid(connect):
    client = connect(auth={"token": "ś3cret"})
    assert client.inboxes["/", "auth"].first() == [({"token": "ś3cret"},)]
    assert len(client.get_sid()) == len(client.eio.sid) == 20
    assert client.get_sid() != client.eio.sid


def test_reaches_its_transport(connect, transports):
    client = connect()
    assert client.call("message-with-ack", "x", timeout=WAIT_SECONDS) == "x"
    assert client.transport() == (transports or ["websocket"])[0]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_events_come_back_as_they_went(connect, row):
    client = connect()
    client.emit("message", row)
    assert client.inboxes["/", "message-back"].first() == [row]
    expected = row if len(row) > 1 else row[0]
    answer = client.call("message-with-ack", row, timeout=WAIT_SECONDS)
    assert (tuple(answer) if len(row) > 1 else answer) == expected


def test_500_events_come_back_once_each(connect, bursts):
    client = connect()
    for index in range(500):
        client.emit("message", index)
    seen = client.inboxes["/", "message-back"]
    seen.first(500)
    assert client.call("message-with-ack", "end", timeout=WAIT_SECONDS) == "end"
    assert sorted(seen.seen) == [(index,) for index in range(500)]


def test_the_server_asks_and_hears_the_answer(connect):
    client = connect(inboxes=("answer", "no-answer"))
    client.on("question", lambda number: {"doubled": number * 2, "bytes": b"\x00"})
    client.emit("ask-me")
    assert client.inboxes["/", "answer"].first() == [({"doubled": 84, "bytes": b"\x00"},)]
    assert client.inboxes["/", "no-answer"].seen == []


def test_an_ack_that_does_not_come_times_out(connect):
    client = connect()
    began = time.monotonic()
    with pytest.raises(socketio.exceptions.TimeoutError):
        client.call("nobody-listens", timeout=0.3)
    assert time.monotonic() - began < 2
    assert client.call("message-with-ack", "alive", timeout=WAIT_SECONDS) == "alive"


def test_rooms(connect):
    ann, ben, eve = connect(), connect(), connect()
    room = f"room {ann.get_sid()}"
    for client in (ann, ben):
        assert client.call("join", room, timeout=WAIT_SECONDS) is True
    assert sorted(ann.call("rooms", timeout=WAIT_SECONDS)) == sorted([ann.get_sid(), room])
    ann.emit("room", (room, {"bytes": b"all"}))
    ann.emit("room-others", (room, "others"))
    inbox = {client: client.inboxes["/", "room-event"] for client in (ann, ben, eve)}
    assert sorted(inbox[ben].first(2), key=str) == [("others",), ({"bytes": b"all"},)]
    assert ben.call("leave", room, timeout=WAIT_SECONDS) is True
    ann.emit("room", (room, "ben has left"))
    for client in (ann, ben, eve):
        ann.emit("room", (client.get_sid(), "end"))
    assert sorted(inbox[ann].first(3), key=str) == [("ben has left",), ("end",), ({"bytes": b"all"},)]
    assert inbox[ben].first(3)[2] == ("end",)
    assert inbox[eve].first() == [("end",)]
    for client in (ann, ben, eve):
        assert client.call("message-with-ack", "end", timeout=WAIT_SECONDS) == "end"
    assert [len(inbox[client].seen) for client in (ann, ben, eve)] == [3, 3, 1]


def test_a_broadcast_reaches_everyone_once(connect, bursts):
    clients = [connect() for _ in range(4)]
    tag = clients[0].get_sid()
    for index in range(60):
        clients[0].emit("everyone", {"tag": tag, "index": index})
    for client in clients:
        seen = client.inboxes["/", "everyone"]
        seen.first(60)
        assert client.call("message-with-ack", "end", timeout=WAIT_SECONDS) == "end"
        assert sorted(event["index"] for (event,) in seen.seen if event["tag"] == tag) == list(range(60))


def test_namespaces(connect):
    client = connect(namespaces=("/", "/custom"), auth={"a": 1})
    assert client.inboxes["/custom", "auth"].first() == [({"a": 1},)]
    assert len({client.get_sid(), client.get_sid("/custom"), client.eio.sid}) == 3
    client.emit("message", "custom", namespace="/custom")
    assert client.inboxes["/custom", "message-back"].first() == [("custom",)]
    assert client.call("message-with-ack", 1, namespace="/custom", timeout=WAIT_SECONDS) == 1
    assert client.inboxes["/", "message-back"].seen == []


@pytest.mark.parametrize(
    "namespace, refusal", [("/random", "Invalid namespace"), ("/refuse", {"message": "unauthorized", "data": {"retry": False}})]
)
def test_refusals(url, transports, namespace, refusal):
    client = socketio.Client(reconnection=False)
    refusals = Inbox()
    client.on("connect_error", refusals, namespace=namespace)
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(url, transports=transports, namespaces=[namespace], wait_timeout=WAIT_SECONDS)
    (reason,) = refusals.first()[0]
    assert reason == refusal or (isinstance(reason, dict) and reason["message"] == refusal)
    client.disconnect()


def test_disconnects_both_ways(connect):
    kicked = connect()
    reasons = Inbox()
    kicked.on("disconnect", reasons)
    kicked.emit("kick-me")
    assert reasons.first() == [(kicked.reason.SERVER_DISCONNECT,)]
    leaving = connect()
    reasons = Inbox()
    leaving.on("disconnect", reasons)
    leaving.disconnect()
    assert reasons.first() == [(leaving.reason.CLIENT_DISCONNECT,)]
    assert leaving.connected is False


def test_a_panicking_handler_costs_no_other_client(connect):
    victim, other = connect(), connect()
    victim.emit("boom")
    assert other.call("message-with-ack", "unharmed", timeout=WAIT_SECONDS) == "unharmed"
    assert connect().call("message-with-ack", "new", timeout=WAIT_SECONDS) == "new"


def test_500_kilobytes_both_ways(connect):
    client = connect()
    for payload in ("0123456789" * 50_000, bytes(500_000)):
        assert client.call("message-with-ack", payload, timeout=WAIT_SECONDS) == payload


def test_clients_on_threads_do_not_mix_their_answers(connect):
    clients = [connect() for _ in range(4)]
    wrong = []

    def work(number, client):
        for index in range(50):
            if client.call("message-with-ack", [number, index], timeout=WAIT_SECONDS) != [number, index]:
                wrong.append((number, index))

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert wrong == []
    assert [client.call("counter", timeout=WAIT_SECONDS) for client in clients] == [1] * 4


def test_a_namespace_as_a_class_meets_one(url, transports):
    class Counter(socketio.ClientNamespace):
        started = Inbox()

        def on_started(self, total):
            self.started(total)

    client = socketio.Client(reconnection=False)
    client.register_namespace(Counter("/class"))
    client.connect(url, transports=transports, auth={"start": 5}, wait_timeout=WAIT_SECONDS)
    try:
        assert Counter.started.first() == [(5,)]
        assert client.call("add", 2, namespace="/class", timeout=WAIT_SECONDS) == 7
        assert client.call("later", 10, namespace="/class", timeout=WAIT_SECONDS) == 7
    finally:
        client.disconnect()


def test_a_namespace_of_a_pattern_refuses_with_data_and_lets_in(url, transports):
    for auth, refusal in [({}, {"message": "unauthorized", "data": {"retry": False}}), ({"token": "t"}, None)]:
        client = socketio.Client(reconnection=False)
        refused = Inbox()
        client.on("connect_error", refused, namespace="/game/python")
        try:
            client.connect(url, transports=transports, auth=auth, namespaces=["/game/python"], wait_timeout=WAIT_SECONDS)
            assert client.call("where", namespace="/game/python", timeout=WAIT_SECONDS) == ("/game/python", "t")
            assert refusal is None
        except socketio.exceptions.ConnectionError:
            assert refused.first() == [(refusal,)]
        finally:
            client.disconnect()


def test_a_client_that_offers_subprotocols_connects(url):
    client = socketio.Client(reconnection=False, websocket_extra_options={"subprotocols": ["chat", "superchat"]})
    client.connect(url, transports=["websocket"], wait_timeout=WAIT_SECONDS)
    try:
        assert client.eio.ws.subprotocol == "chat"
        assert client.call("message-with-ack", "x", timeout=WAIT_SECONDS) == "x"
    finally:
        client.disconnect()

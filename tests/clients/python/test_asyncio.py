"""python-socketio's asyncio client (aiohttp)."""

import asyncio

import pytest
import socketio

from conftest import WAIT_SECONDS

ROWS = [
    ("one",),
    (1, "2", {"3": [True]}),
    ("żółć 🦀", None, [[], {}]),
    ({"nested": [b"\x00\xff", b""]}, b"last"),
]


def get(queue):
    return asyncio.wait_for(queue.get(), WAIT_SECONDS)


def ask(client, *args, **options):
    return client.call(*args, timeout=WAIT_SECONDS, **options)


def test_connects_with_its_auth(run_async, transports):
    async def scenario(connect):
        client = await connect(auth={"token": [1, {"a": "ż"}]})
        assert await get(client.queues["auth"]) == ({"token": [1, {"a": "ż"}]},)
        assert await ask(client, "message-with-ack", "x") == "x"
        assert client.transport() == (transports or ["websocket"])[0]

    run_async(scenario)


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_events_and_acks(run_async, row):
    async def scenario(connect):
        client = await connect()
        await client.emit("message", row)
        assert await get(client.queues["message-back"]) == row
        answer = await ask(client, "message-with-ack", row)
        assert (tuple(answer) if len(row) > 1 else (answer,)) == row

    run_async(scenario)


def test_200_calls_at_once_get_their_own_answers(run_async, bursts):
    async def scenario(connect):
        client = await connect()
        answers = await asyncio.gather(*(ask(client, "message-with-ack", index) for index in range(200)))
        assert answers == list(range(200))

    run_async(scenario)


def test_events_behind_an_asynchronous_handler_wait_for_it(run_async):
    async def scenario(connect):
        client = await connect()
        order = asyncio.Queue()
        await client.emit("slow", (150, "slow"), callback=order.put_nowait)
        await client.emit("message-with-ack", "quick", callback=order.put_nowait)
        assert [await get(order), await get(order)] == ["slow", "quick"]
        assert await ask(client, "counter") == 1

    run_async(scenario)


def test_answers_that_come_later_overtake_each_other_and_hold_up_nothing(run_async):
    async def scenario(connect):
        client = await connect()
        order = asyncio.Queue()
        await client.emit("ask-later", callback=lambda value, data: order.put_nowait((value, data)))
        await client.emit("concurrent", (1500, "slow"), callback=order.put_nowait)
        await client.emit("concurrent", (1, "fast"), callback=order.put_nowait)
        await client.emit("message-with-ack", "at once", callback=order.put_nowait)
        assert sorted([await get(order), await get(order)]) == ["at once", "fast"]
        assert await ask(client, "ask-thread", 10) == 10
        assert await ask(client, "tell-later", {"a": "ś"}) == 1
        later = [await get(order), await get(order)]
        assert ({"a": "ś"}, b"\x01\xff") in later and "slow" in later

    run_async(scenario)


def test_500_events_stay_in_order(run_async, bursts):
    async def scenario(connect):
        client = await connect()
        for index in range(500):
            await client.emit("message", index)
        assert [await get(client.queues["message-back"]) for _ in range(500)] == [(index,) for index in range(500)]

    run_async(scenario)


def test_the_server_asks(run_async):
    async def scenario(connect):
        client = await connect(names=("answer",))

        @client.on("question")
        async def question(number):
            await asyncio.sleep(0)
            return number + 1

        await client.emit("ask-me")
        assert await get(client.queues["answer"]) == (43,)

    run_async(scenario)


def test_rooms_and_broadcasts(run_async, bursts):
    async def scenario(connect):
        clients = [await connect() for _ in range(6)]
        room = f"room {clients[0].get_sid()}"
        for client in clients[:3]:
            assert await ask(client, "join", room) is True
        for index in range(40):
            await clients[0].emit("room", (room, {"index": index, "bytes": bytes([index])}))
            await clients[0].emit("everyone", index)
        await clients[0].emit("room-others", (room, "others"))
        for client in clients:
            assert [await get(client.queues["everyone"]) for _ in range(40)] == [(index,) for index in range(40)]
        for client in clients[:3]:
            seen = [await get(client.queues["room-event"]) for _ in range(40)]
            assert seen == [({"index": index, "bytes": bytes([index])},) for index in range(40)]
        for client in clients[1:3]:
            assert await get(client.queues["room-event"]) == ("others",)
        for client in clients:
            assert await ask(client, "message-with-ack", "end") == "end"
            assert client.queues["room-event"].empty() and client.queues["everyone"].empty()

    run_async(scenario)


def test_namespaces_and_refusals(run_async, url, transports):
    async def scenario(connect):
        client = await connect(namespaces=["/", "/custom"])
        assert await ask(client, "message-with-ack", b"\x01", namespace="/custom") == b"\x01"
        assert client.get_sid() != client.get_sid("/custom")
        refused = socketio.AsyncClient(reconnection=False)
        reasons = asyncio.Queue()
        refused.on("connect_error", reasons.put_nowait, namespace="/refuse")
        with pytest.raises(socketio.exceptions.ConnectionError):
            await refused.connect(url, transports=transports, namespaces=["/refuse"], wait_timeout=WAIT_SECONDS)
        assert await get(reasons) == {"message": "unauthorized", "data": {"retry": False}}
        await refused.disconnect()

    run_async(scenario)


def test_a_kick_ends_one_namespace_and_can_be_followed_by_a_new_connection(run_async):
    async def scenario(connect):
        client = await connect(namespaces=["/", "/custom"])
        reasons = asyncio.Queue()
        client.on("disconnect", reasons.put_nowait, namespace="/custom")
        await client.emit("kick-me", namespace="/custom")
        assert await get(reasons) == client.reason.SERVER_DISCONNECT
        assert await ask(client, "message-with-ack", "main lives") == "main lives"
        again = await connect()
        assert await ask(again, "counter") == 1

    run_async(scenario)

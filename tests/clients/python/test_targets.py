"""Questions to many, and calls: python-socketio clients on every shard."""

import asyncio

from conftest import WAIT_SECONDS

MEMBERS = 6


def ask(client, *args, **options):
    return client.call(*args, timeout=WAIT_SECONDS, **options)


async def members_of(connect, room, count=MEMBERS):
    """Clients in a room, each answering `question` with its own id and what it was asked."""
    members = []
    for _ in range(count):
        client = await connect()
        client.on("question", lambda value, client=client: f"{client.get_sid('/')} {value}")
        assert await ask(client, "join", room) is True
        members.append(client)
    return members


async def too_late(value):
    await asyncio.sleep(8)


def answers_of(members):
    return sorted(f"{client.get_sid('/')} 42" for client in members)


def test_a_question_to_a_room_is_answered_by_all(run_async):
    async def scenario(connect):
        asker = await connect()
        room = f"python {asker.get_sid('/')}"
        members = await members_of(connect, room)
        complete, values = await ask(asker, "ask-room", (room, 5_000))
        assert (complete, sorted(values)) == (True, answers_of(members))

    run_async(scenario)


def test_who_does_not_answer_is_missing(run_async):
    async def scenario(connect):
        asker = await connect()
        room = f"python {asker.get_sid('/')}"
        members = await members_of(connect, room, 3)
        silent = await connect()
        silent.on("question", too_late)
        assert await ask(silent, "join", room) is True
        complete, values = await ask(asker, "ask-room", (room, 2_000))
        assert (complete, sorted(values)) == (False, answers_of(members))

    run_async(scenario)


def test_twenty_questions_at_once(run_async, bursts):
    async def scenario(connect):
        asker = await connect()
        room = f"python {asker.get_sid('/')}"
        members = await members_of(connect, room)
        questions = (ask(client, "ask-room", (room, 5_000)) for client in [asker, *members] * 3)
        for complete, values in await asyncio.gather(*questions):
            assert (complete, sorted(values)) == (True, answers_of(members))

    run_async(scenario)


def test_a_thread_of_the_server_calls_one_client(run_async):
    async def scenario(connect):
        asker = await connect(["called"])
        members = await members_of(connect, f"python {asker.get_sid('/')}", 4)
        for client in members:
            assert await ask(asker, "call-from-thread", (client.get_sid("/"), 5_000)) is True
            called = await asyncio.wait_for(asker.queues["called"].get(), WAIT_SECONDS)
            assert called == (f"{client.get_sid('/')} 42",)

    run_async(scenario)

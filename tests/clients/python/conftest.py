"""Stock Python clients, synchronous and asyncio, on each way to reach the server."""

import asyncio
import os
import threading

import pytest
import socketio

WAIT_SECONDS = 8
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}


@pytest.fixture(scope="session")
def url():
    """The server that scripts/test-clients.sh started."""
    if "SERVER_URL" not in os.environ:
        pytest.fail("SERVER_URL is not set: run the suites through scripts/test-clients.sh")
    return os.environ["SERVER_URL"]


@pytest.fixture(params=TRANSPORTS)
def transports(request):
    return TRANSPORTS[request.param]


@pytest.fixture
def bursts(transports):
    """For tests that make more than 16 packets wait for one poll: Node sends them all, and this client refuses."""
    if os.environ.get("TARGET") == "reference" and transports == ["polling"]:
        pytest.skip("the npm server sends more than 16 packets in one response")


class Inbox:
    """Keeps the events of one name; a reader waits for a number of them, and never for ever."""

    def __init__(self):
        self.seen = []
        self._changed = threading.Condition()

    def __call__(self, *args):
        with self._changed:
            self.seen.append(args)
            self._changed.notify_all()

    def first(self, count=1):
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.seen) >= count, WAIT_SECONDS):
                raise TimeoutError(f"{len(self.seen)} of {count} events came")
            return self.seen[:count]


@pytest.fixture
def connect(url, transports):
    """Opens synchronous clients, and disconnects them at the end."""
    clients = []

    def connect(inboxes=(), auth=None, namespaces=("/",)):
        client = socketio.Client(reconnection=False)
        clients.append(client)
        client.inboxes = {}
        for namespace in namespaces:
            for name in ("auth", "message-back", "room-event", "everyone", *inboxes):
                inbox = client.inboxes[namespace, name] = Inbox()
                client.on(name, inbox, namespace=namespace)
        client.connect(url, transports=transports, auth=auth, namespaces=list(namespaces), wait_timeout=WAIT_SECONDS)
        return client

    yield connect
    for client in clients:
        client.disconnect()


@pytest.fixture
def run_async(url, transports):
    """Runs a coroutine that gets a function opening asyncio clients, and disconnects them at the end."""

    def run(scenario):
        async def whole():
            clients = []

            async def connect(names=(), **options):
                client = socketio.AsyncClient(reconnection=False)
                clients.append(client)
                client.queues = {name: asyncio.Queue() for name in ("auth", "message-back", "room-event", "everyone", *names)}
                for name, queue in client.queues.items():
                    client.on(name, lambda *args, queue=queue: queue.put_nowait(args))
                await client.connect(url, transports=transports, wait_timeout=WAIT_SECONDS, **options)
                return client

            try:
                await scenario(connect)
            finally:
                for client in clients:
                    await client.disconnect()

        asyncio.run(asyncio.wait_for(whole(), 30))

    return run

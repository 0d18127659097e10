"""Stock python-socketio clients that stay connected, for tests/clients/js/test/drain.test.mjs: what happens to them, a line each."""

import asyncio
import json
import sys

import socketio


def say(name, what, value=None):
    print(json.dumps({"name": name, "what": what, "value": value}), flush=True)


async def stay(url, name, transport):
    client = socketio.AsyncClient(reconnection_delay_max=2)
    client.on("connect", lambda: say(name, "connect"))
    client.on("disconnect", lambda reason: say(name, "disconnect", reason))
    client.on("n", lambda number, *offset: say(name, "n", number))
    await client.connect(url, transports=[transport])
    await client.wait()


async def main(url, count):
    clients = [(f"python {transport} {index}", transport) for transport in ("polling", "websocket") for index in range(count)]
    await asyncio.gather(*(stay(url, name, transport) for name, transport in clients))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))

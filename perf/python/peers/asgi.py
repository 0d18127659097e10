"""The five events on python-socketio's asyncio server and uvicorn. Usage: asgi.py PORT"""

import sys

import socketio
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", logger=False, engineio_logger=False)


@sio.on("echo")
async def echo(_sid, argument):
    return argument


@sio.on("bin")
async def binary(_sid, argument):
    return argument


@sio.on("broadcast")
async def broadcast(_sid, argument):
    await sio.emit("msg", argument)


@sio.on("join")
async def join(sid, room):
    await sio.enter_room(sid, room)
    return True


@sio.on("room")
async def to_room(_sid, name, argument):
    await sio.emit("msg", argument, room=name)


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(sio), host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="websockets-sansio",
        ws_per_message_deflate=False, access_log=False, log_level="warning", backlog=4096,
    )

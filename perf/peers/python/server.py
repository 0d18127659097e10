"""Flask-SocketIO behind the events that `perf/fleet` needs. Usage: python server.py PORT REDIS_URL; prints "listening" once it accepts."""

import sys

from flask import Flask
from flask_socketio import SocketIO, emit, join_room

app = Flask(__name__)
socketio = SocketIO(app, message_queue=sys.argv[2], async_mode="threading")


@socketio.on("join")
def join(room):
    join_room(room)
    return True


@socketio.on("room")
def room(name, argument):
    emit("msg", argument, to=name)


socketio.run(app, port=int(sys.argv[1]), allow_unsafe_werkzeug=True)

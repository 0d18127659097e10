"""The five events of perf, and pages, as a Flask-SocketIO application. Usage: flask_app.py PORT MODE

MODE: gevent or threading for Flask-SocketIO; shardcast runs it through `python -m flask_shardcast`, and ignores the mode.
BENCH_TYPICAL=1 has the echo read `request.sid` and count in `session`. BENCH_WORK_US has it compute, BENCH_WAIT_MS wait.
"""

import os
import sys
import threading
import time

PORT, MODE = int(sys.argv[1]), sys.argv[2]
if MODE == "gevent":
    from gevent import monkey

    monkey.patch_all()

from flask import Flask, request, session  # noqa: E402
from flask_socketio import SocketIO, emit, join_room  # noqa: E402

app = Flask(__name__)
app.config["SECRET_KEY"] = "bench"
socketio = SocketIO(app, cors_allowed_origins="*", async_mode=MODE)
IS_TYPICAL = bool(os.environ.get("BENCH_TYPICAL"))
WORK_SECONDS, WAIT_SECONDS = float(os.environ.get("BENCH_WORK_US", 0)) / 1e6, float(os.environ.get("BENCH_WAIT_MS", 0)) / 1e3


@socketio.on("echo")
def echo(argument):
    if IS_TYPICAL:
        session["n"] = session.get("n", 0) + 1
        session["by"] = request.sid
    if WORK_SECONDS:
        end = time.thread_time() + WORK_SECONDS
        while time.thread_time() < end:
            pass
    if WAIT_SECONDS:
        time.sleep(WAIT_SECONDS)
    return argument


@socketio.on("bin")
def binary(argument):
    return argument


@socketio.on("broadcast")
def broadcast(argument):
    emit("msg", argument, broadcast=True)


@socketio.on("join")
def join(room):
    join_room(room)
    return True


@socketio.on("room")
def to_room(name, argument):
    emit("msg", argument, to=name)


@app.route("/hello")
def hello():
    return "hello"


def run():
    options = {}
    if MODE == "threading":
        import logging

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        from werkzeug.serving import WSGIRequestHandler

        # As its other servers, with connections that stay open.
        WSGIRequestHandler.protocol_version = "HTTP/1.1"
        options["allow_unsafe_werkzeug"] = True
    elif MODE == "gevent":
        options["log_output"] = False
    threading.current_thread().name = "main"
    socketio.run(app, host="127.0.0.1", port=PORT, **options)


if __name__ == "__main__":
    run()

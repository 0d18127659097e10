"""What goes wrong in applications: an error in each place, handlers that never end, work that waits, much at once."""

import gc
import os
import sys
import threading
import time

from flask import Flask, g, request, session
from flask_socketio import SocketIO, emit, join_room

app = Flask(__name__)
app.config["SECRET_KEY"] = "faults"
socketio = SocketIO(app, cors_allowed_origins="*", async_mode="threading", ping_interval=int(os.environ.get("PING", 25)), ping_timeout=int(os.environ.get("PING", 20)))
gone = []
stuck = threading.Event()


@socketio.on("connect")
def connect(auth):
    if auth and auth.get("fail"):
        raise ValueError("error in connect")


@socketio.on("disconnect")
def disconnect(reason):
    gone.append(reason)
    if request.args.get("fail") == "disconnect":
        raise ValueError("error in disconnect")


@socketio.on("echo")
def echo(value):
    return value


@socketio.on("fail")
def fail():
    raise ValueError("error in a handler")


@socketio.on("fail in callback")
def fail_in_callback():
    def answered(*_):
        raise ValueError("error in a callback")

    emit("question", callback=answered)


@socketio.on("fail in background")
def fail_in_background():
    def work():
        raise ValueError("error in a background task")

    socketio.start_background_task(work)


@socketio.on("fail in thread")
def fail_in_thread():
    def work():
        raise ValueError("error in a thread")

    threading.Thread(target=work, daemon=True).start()


@socketio.on("fail in error handler", namespace="/twice")
def fail_twice():
    raise ValueError("first error")


@socketio.on_error("/twice")
def failing_error_handler(_error):
    raise ValueError("error in an error handler")


@socketio.on("echo", namespace="/twice")
def echo_twice(value):
    return value


@socketio.on("fail in teardown")
def fail_in_teardown():
    g.fail = True
    return "answered"


@app.teardown_request
def teardown(_error):
    if g.pop("fail", False):
        raise ValueError("error in teardown")


@socketio.on("exit")
def leave():
    sys.exit("exit in a handler")


@socketio.on("recursion")
def recursion():
    return recursion()


@socketio.on("stick")
def stick(seconds):
    stuck.wait(seconds)
    return "let go"


@socketio.on("compute")
def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "computed"


@socketio.on("let go")
def let_go():
    stuck.set()


@socketio.on("use everything")
def use_everything(room):
    join_room(room)
    session["n"] = session.get("n", 0) + 1
    g.used = request.headers.get("Host")
    emit("seen", {"sid": request.sid}, to=room)
    emit("question", callback=lambda *_: None)
    return session["n"]


@app.route("/fail")
def fail_page():
    raise ValueError("error in a page")


@app.route("/slow")
def slow():
    stuck.wait(float(request.args["seconds"]))
    return "slow"


@app.route("/gone")
def how_many_gone():
    return {"gone": len(gone)}


@app.route("/facts")
def facts():
    """What is kept, after a collection."""
    gc.collect()
    manager = socketio.server.manager
    try:
        clients = len(list(manager.get_participants("/", None)))
    except KeyError:
        clients = 0
    return {
        "objects": len(gc.get_objects()), "threads": threading.active_count(), "clients": clients, "environs": len(socketio.server.environ),
        "sessions": sum(type(each).__name__ in ("_ManagedSession", "ManagedSession", "SecureCookieSession") for each in gc.get_objects()),
    }


if __name__ == "__main__":
    socketio.run(app, port=int(sys.argv[1]), debug="--debug" in sys.argv, allow_unsafe_werkzeug=True)

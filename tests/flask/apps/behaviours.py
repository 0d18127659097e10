"""The application of the table of behaviours: the same file runs on Flask-SocketIO and on shardcast.

    behaviours.py PORT [MODE]     MODE is Flask-SocketIO's async_mode, which shardcast ignores

Its events are those that behaviours.json names.
"""

import sys

PORT, MODE = int(sys.argv[1]), (sys.argv[2:] or [None])[0]
if MODE == "gevent":
    from gevent import monkey

    monkey.patch_all()

import builtins  # noqa: E402
import threading  # noqa: E402

import flask  # noqa: E402
import flask_socketio  # noqa: E402
from flask import Flask, copy_current_request_context, current_app, g, request, session  # noqa: E402
from flask_socketio import ConnectionRefusedError, Namespace, SocketIO  # noqa: E402
from flask_socketio import call, close_room, disconnect, emit, join_room, leave_room, rooms, send  # noqa: E402

app = Flask(__name__)
app.config["SECRET_KEY"] = "behaviours"
socketio = SocketIO(app, cors_allowed_origins="*", async_mode=MODE)
#: What was seen by handlers whose client is gone, or cannot be told: by the `mark` of the client's query.
seen = {}


def note(*facts):
    seen.setdefault(request.args.get("mark"), []).append(list(facts))


# ------------------------------------------------------------ connect


@socketio.on("connect")
def connect(auth):
    note("connect", auth)
    if auth and "say" in auth:
        emit("greeting", auth["say"])


@socketio.on("disconnect")
def gone(reason):
    note("disconnect", reason, sorted(room for room in rooms() if room != request.sid))


@socketio.on("connect", namespace="/no-auth")
def connect_without_auth():
    emit("greeting", "no auth asked for")


@socketio.on("disconnect", namespace="/no-auth")
def gone_without_reason():
    note("disconnect without reason")


REFUSALS = {
    "nothing": ConnectionRefusedError(),
    "text": ConnectionRefusedError("who are you?"),
    "data": ConnectionRefusedError("denied", {"retry": False}),
    "more": ConnectionRefusedError("denied", 1, "two"),
    "object": ConnectionRefusedError({"a": 1}),
    "number": ConnectionRefusedError(403),
}


@socketio.on("connect", namespace="/refusing")
def refuse(auth):
    note("refusing", auth)
    how = auth["how"] if isinstance(auth, dict) else auth
    if how in (None, "announced"):
        emit("public", "a client asks", broadcast=True)
    if how in ("false", "announced"):
        return False
    if how == "error":
        raise ValueError("connect failed")
    if how in REFUSALS:
        raise REFUSALS[how]


@socketio.on("disconnect", namespace="/refusing")
def gone_refused(reason):
    note("a refused client's disconnect handler", reason)


@socketio.on("whoami", namespace="/refusing")
def whoami():
    return "in"


@socketio.on("connect", namespace="/builtin-refusal")
def refuse_builtin():
    raise builtins.ConnectionRefusedError("builtin")


@socketio.on("connect", namespace="/leaving")
def leave_at_once():
    emit("greeting", "and good bye")
    disconnect()


# ------------------------------------------------------------ events, answers


@socketio.on("message")
def on_message(data):
    send(data)


@socketio.on("json")
def on_json(data):
    send(data, json=True)


@socketio.on("echo")
def echo(*args):
    emit("echoed", args)
    return args


@socketio.event
def named():
    return "by its name"


def by_method(data):
    return "on_event", data


socketio.on_event("by method", by_method)

ANSWERS = {
    "nothing": None, "empty tuple": (), "text": "x", "tuple": ("one", 2, {"three": 3}), "list": [1, 2], "empty list": [],
    "object": {"a": None}, "bytes": b"\x00\x01\xff", "false": False, "zero": 0, "null in a tuple": (None,), "float": 1.5,
    "bytes inside": {"deep": [b"a", {"b": b"b"}]}, "bytearray": bytearray(b"b"), "big": 2**53, "text of many kinds": "é€😀\u2028\"\\\n",
    "true": True, "integer keys": {1: "one"}, "tuple inside": [(1, 2)], "negative": -1,
}


@socketio.on("answer")
def answer(name):
    return ANSWERS[name]


@socketio.on("send")
def send_back(name):
    emit("sent", ANSWERS[name])


@socketio.on("one argument")
def one_argument(_only):
    return "one"


@socketio.on("kinds")
def kinds(*args):
    return [type(arg).__name__ for arg in args]


@socketio.on("*", namespace="/any")
def any_event(event, *args):
    return [event, *args]


@socketio.on("known", namespace="/any")
def known():
    return "known"


@socketio.on("unsendable")
def unsendable():
    emit("sent", {"a": object()})


@socketio.on("unanswerable")
def unanswerable():
    return object()


# ------------------------------------------------------------ callbacks


@socketio.on("ask me")
def ask_me(event, *args):
    sid = request.sid
    emit(event, args, callback=lambda *answers: socketio.emit("answered", answers, to=sid))


@socketio.on("ask all")
def ask_all(room):
    sid = request.sid
    emit("question", 1, to=room, callback=lambda *answers: socketio.emit("answered", answers, to=sid))


@socketio.on("call me")
def call_me(event, *args):
    return ["answer", call(event, args, timeout=3)]


@socketio.on("call silent")
def call_silent():
    try:
        return call("silent", timeout=0.3)
    except Exception as error:
        return type(error).__name__


@socketio.on("call with context")
def call_with_context():
    @copy_current_request_context
    def answered(value):
        emit("answered", [value, request.sid == sid, session.get("n")])

    session["n"] = 7
    sid = request.sid
    emit("question", 1, callback=answered)


# ------------------------------------------------------------ rooms


@socketio.on("join")
def join(*names):
    for name in names:
        join_room(name)
    return True


@socketio.on("leave")
def leave(*names):
    for name in names:
        leave_room(name)
    return True


@socketio.on("rooms")
def my_rooms():
    return sorted(str(room) for room in rooms() if room != request.sid), request.sid in rooms()


@socketio.on("close")
def close(name):
    close_room(name)
    return True


@socketio.on("to")
def to(target, data, options=None):
    emit("told", data, to=target, **(options or {}))
    return "sent"


@socketio.on("to but")
def to_but(target, skipped, data):
    emit("told", data, to=target, skip_sid=skipped)
    return "sent"


@socketio.on("broadcast")
def broadcast(data, options=None):
    emit("told", data, broadcast=True, **(options or {}))
    return "sent"


@socketio.on("server emit")
def server_emit(target, data):
    socketio.emit("told", data, to=target)
    return "sent"


@socketio.on("server send")
def server_send(data):
    socketio.send(data)
    return "sent"


@socketio.on("send to")
def send_to(target, data):
    send(data, to=target)
    return "sent"


@socketio.on("elsewhere")
def elsewhere(data):
    emit("told", data, namespace="/other", broadcast=True)
    return "sent"


@socketio.on("connect", namespace="/other")
def connect_other():
    pass


@socketio.on("join", namespace="/other")
def join_other(name):
    join_room(name)
    return True


@socketio.on("count")
def count(room):
    return len(list(socketio.server.manager.get_participants("/", room)))


@socketio.on("put in")
def put_in(room, sid):
    join_room(room, sid=sid)
    return True


@socketio.on("take out")
def take_out(room, sid):
    leave_room(room, sid=sid)
    return True


@socketio.on("sid")
def my_sid():
    return request.sid


# ------------------------------------------------------------ the end


@socketio.on("disconnect me")
def disconnect_me():
    emit("told", "good bye")
    disconnect()
    return "answered all the same"


@socketio.on("disconnect other")
def disconnect_other(sid):
    disconnect(sid)
    return "done"


@socketio.on("seen")
def what_was_seen(mark):
    return seen.get(mark, [])


# ------------------------------------------------------------ contexts


@socketio.on("session")
def count_session():
    session["n"] = session.get("n", 0) + 1
    return session["n"], session.get("page")


@socketio.on("session", namespace="/other")
def count_session_other():
    session["n"] = session.get("n", 0) + 1
    return session["n"], session.get("page")


@socketio.on("g")
def use_g():
    g.n = g.get("n", 0) + 1
    return g.n, current_app.name == app.name, flask.has_request_context(), flask.has_app_context()


@socketio.on("request")
def of_request(*args):
    event = request.event
    return {
        "namespace": request.namespace, "event": event["message"], "args": list(event["args"]), "method": request.method,
        "path": request.path, "query": request.args.get("mark") is not None, "transport": request.args["transport"],
        "header": request.headers.get("X-Test"), "address": request.remote_addr, "sid": request.sid,
        "cookie": request.cookies.get("tea"),
    }


@app.teardown_request
def teardown(_error):
    if request.args.get("mark") and getattr(request, "event", None) and request.event["message"] == "torn":
        note("torn down")


@socketio.on("torn")
def torn():
    return True


@app.before_request
def before():
    g.before = True


@socketio.on("before")
def is_before():
    return g.get("before", False)


@socketio.on("background")
def background():
    sid = request.sid

    def work():
        socketio.sleep(0.01)
        socketio.emit("told", "from the background", to=sid)

    socketio.start_background_task(work)
    return "begun"


@socketio.on("thread")
def thread():
    sid = request.sid
    threading.Thread(target=lambda: socketio.emit("told", "from a thread", to=sid), daemon=True).start()
    return "begun"


@socketio.on("background with context")
def background_with_context():
    @copy_current_request_context
    def work():
        emit("told", ["mine", request.sid == sid])

    sid = request.sid
    socketio.start_background_task(work)
    return "begun"


@socketio.on("nap")
def nap(seconds):
    socketio.sleep(seconds)
    return "napped"


@socketio.on("ticks")
def ticks(count):
    for number in range(count):
        emit("tick", number)
    return count


@socketio.on("loop")
def loop():
    session["loops"] = True
    looping[request.sid] = True
    while looping[request.sid]:
        socketio.sleep(0.01)
    emit("told", "stopped")


looping = {}


@socketio.on("stop")
def stop():
    looping[request.sid] = False
    return "stopping"


# ------------------------------------------------------------ errors


@socketio.on("fail")
def fail(text):
    raise ValueError(text)


@socketio.on("refuse late")
def refuse_late():
    raise ConnectionRefusedError("too late")


class Failing:
    @staticmethod
    def on_failure(error):
        emit("failed", [type(error).__name__, str(error), request.event["message"], list(request.event["args"])])
        return "an error's answer"


@socketio.on_error("/caught")
def caught(error):
    return Failing.on_failure(error)


@socketio.on_error_default
def caught_by_default(error):
    # `/` and `/refusing` are as they would be without any error handler.
    if request.namespace == "/by-default":
        return Failing.on_failure(error)
    raise error


@socketio.on("fail", namespace="/caught")
@socketio.on("fail", namespace="/by-default")
def fail_caught(text):
    raise KeyError(text)


@socketio.on("arity", namespace="/caught")
def arity_caught():
    return "no argument"


@socketio.on("silent failure", namespace="/caught")
def silent_failure():
    raise Silent


class Silent(Exception):
    pass


@socketio.on("callback fails", namespace="/caught")
def callback_fails():
    def answered(_value):
        raise ValueError("in the callback")

    emit("question", 1, callback=answered)
    return "asked"


# ------------------------------------------------------------ class namespaces


class Chat(Namespace):
    def on_connect(self, auth=None):
        self.emit("greeting", "from a class", room=request.sid)

    def on_disconnect(self, reason):
        note("class disconnect", reason)

    def on_say(self, text):
        self.emit("said", text)
        return text

    def on_say_to(self, room, text):
        self.emit("said", text, room=room)

    def on_enter(self, room):
        join_room(room)

    def on_shut(self, room):
        self.close_room(room)
        return True

    def on_shadowed(self):
        return "the method"


@socketio.on("shadowed", namespace="/chat")
def shadows():
    return "the function"


socketio.on_namespace(Chat("/chat"))


# ------------------------------------------------------------ pages


@app.route("/push")
def push():
    socketio.emit("told", "from a page")
    return "pushed"


@app.route("/emit-from-page")
def emit_from_page():
    emit("told", "by the function, from a page", namespace="/", broadcast=True)
    return "emitted"


@app.route("/login")
def login():
    session["page"] = "set by a page"
    return "logged in"


@app.route("/session")
def page_session():
    return {"n": session.get("n"), "page": session.get("page")}


options = {"allow_unsafe_werkzeug": True} if MODE == "threading" else {}
socketio.run(app, host="127.0.0.1", port=PORT, **options)

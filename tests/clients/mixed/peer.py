"""A process of Flask-SocketIO or python-socketio, of any version, that does what it is told.

    peer.py KIND QUEUE PORT

KIND is `flask`, a server with Flask; `server`, one without; `flask-emitter` and `emitter`, which only emit, as a Celery worker does.
QUEUE is the URL of a Redis, a RabbitMQ or a Kafka. Each line of standard input is a command: {"id": 1, "verb": "emit", "args": [..], "event": .., "to": .., ..}. Each line of standard output is what came of one, or
what a callback was called with. Bytes are {"base64": ".."} in both.
"""

import base64
import json
import sys
import threading

KIND, QUEUE, PORT = sys.argv[1:4]
CHANNEL = "flask-socketio"
printing = threading.Lock()
# What a server says of itself goes elsewhere.
lines, sys.stdout = sys.stdout, sys.stderr


def read(value):
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {key: read(inner) for key, inner in value.items()}
    return [read(inner) for inner in value] if isinstance(value, list) else value


def write(value):
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: write(inner) for key, inner in value.items()}
    return [write(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def say(**line):
    with printing:
        print(json.dumps(line), file=lines, flush=True)


def make():
    """What emits, and how to serve with it; nothing to serve for a process that only emits."""
    mend_kafka()
    mend_kombu()
    if KIND.startswith("flask"):
        from flask import Flask
        from flask_socketio import SocketIO

        if KIND == "flask-emitter":
            return SocketIO(message_queue=QUEUE), None
        app = Flask(__name__)
        sio = SocketIO(app, message_queue=QUEUE, async_mode="threading", cors_allowed_origins="*")
        return sio, lambda: sio.run(app, port=int(PORT), allow_unsafe_werkzeug=True)
    import socketio

    managers = {"redis": socketio.RedisManager, "kafka": socketio.KafkaManager, "amqp": socketio.KombuManager}
    manager = managers[QUEUE.split(":")[0]](QUEUE, channel=CHANNEL, write_only=KIND == "emitter")
    if KIND == "emitter":
        return manager, None
    sio = socketio.Server(client_manager=manager, async_mode="threading", cors_allowed_origins="*")
    return sio, lambda: serve(socketio.WSGIApp(sio))


def mend_kafka():
    """From 5.14 on python-socketio gives kafka-python text, which takes bytes alone: nothing would be published."""
    import socketio

    class Kafka(socketio.KafkaManager):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            send = self.producer.send
            self.producer.send = lambda topic, value: send(topic, value=value if isinstance(value, bytes) else value.encode())

    socketio.KafkaManager = Kafka


def mend_kombu():
    """With RabbitMQ python-socketio publishes on one connection from all threads, and two at once may wait for ever for each other's answers."""
    import socketio

    class Kombu(socketio.KombuManager):
        one_at_a_time = threading.Lock()

        def _publish(self, data):
            with self.one_at_a_time:
                return super()._publish(data)

    socketio.KombuManager = Kombu


def serve(app):
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Threads(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        request_queue_size = 64

    make_server("127.0.0.1", int(PORT), app, Threads, WSGIRequestHandler).serve_forever()


def do(sio, command):
    number, verb = command["id"], command["verb"]
    server = getattr(sio, "server", None) or sio
    if verb in ("emit", "call"):
        data = [read(value) for value in command["args"]]
        # A tuple is several arguments, a list is one.
        data = () if not data else (data[0] if len(data) == 1 else tuple(data),)
        options = {"room": command.get("to")}
        if KIND == "emitter":
            data = data or (None,)
            options["namespace"] = "/"
        if verb == "call":
            return sio.call(command["event"], *data, to=command["to"], timeout=command["seconds"])
        options["skip_sid"] = command.get("skip")
        if command.get("callback"):
            options["callback"] = lambda *args: say(called=number, args=write(args))
        return sio.emit(command["event"], *data, **options)
    if verb == "send":
        return server.send(read(command["args"][0]), room=command.get("to"), namespace="/")
    place = {name: command[name] for name in ("sid", "room") if name in command}
    return getattr(server, verb)(namespace="/", **place)


def run(sio, command):
    try:
        say(id=command["id"], result=write(do(sio, command)))
    except Exception as error:
        say(id=command["id"], error="%s: %s" % (type(error).__name__, error))


def main():
    sio, serving = make()
    if serving:
        threading.Thread(target=serving, daemon=True).start()
    say(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["verb"] == "call":
            threading.Thread(target=run, args=(sio, command), daemon=True).start()
        else:
            run(sio, command)


main()

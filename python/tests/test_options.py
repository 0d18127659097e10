"""What an application says to Flask-SocketIO, as settings of the core; and what cannot be."""

import logging

import flask
import pytest

from flask_shardcast import Namespace, SocketIO, _options
from flask_shardcast._rooms import name_of, names_of, room_of


@pytest.mark.parametrize("options, settings", [
    ({}, {}),
    ({"path": "/x/"}, {"path": "/x/"}),
    ({"resource": "x"}, {"path": "/x/"}),
    ({"ping_interval": 5, "ping_timeout": 2.5, "http_compression": False}, {"ping_interval": "5", "ping_timeout": "2.5",
                                                                          "http_compression": "false"}),
    ({"ping_interval": (5, 1), "always_connect": True}, {"ping_interval": "5", "ping_grace": "1", "always_connect": "true"}),
    ({"cors_allowed_origins": "*"}, {"cors_allowed_origins": "*"}),
    ({"cors_allowed_origins": ["*"]}, {"cors_allowed_origins": "*"}),
    ({"cors_allowed_origins": ["https://a.b", "https://c.d"]}, {"cors_allowed_origins": '["https://a.b", "https://c.d"]'}),
    ({"cors_allowed_origins": []}, {"cors_allowed_origins": "off"}),
    ({"cookie": "io"}, {"cookie": "io"}),
    ({"cookie": {"name": "io", "Max-Age": lambda: "60", "HttpOnly": True, "Secure": False}}, {"cookie": "io; Max-Age=60; HttpOnly"}),
    ({"cookie": {"name": "io", "path": "/p"}}, {"cookie": "io; path=/p; HttpOnly=false"}),
    ({"transports": ["websocket"]}, {"polling": "false", "websocket": "true"}),
    ({"serializer": "msgpack"}, {"parser": "msgpack"}),
    ({"logger": True, "engineio_logger": logging.getLogger("quiet.for.this.test")}, {"socketio_log": "debug", "engineio_log": "warn"}),
    ({"message_queue": "redis://", "channel": "c"}, {"message_queue": "redis://", "channel": "c"}),
    ({"cookie": None, "transports": None, "async_mode": "eventlet", "monitor_clients": False, "nonsense": 1}, {}),
])
def test_settings(options, settings):
    assert _options.settings(options) == {"channel": "flask-socketio", **settings}


@pytest.mark.parametrize("options, told", [
    ({"serializer": object}, "serializer=.*there are 'default' and 'msgpack'"),
    ({"message_queue": "zmq+tcp://x:1+2"}, "message_queue='zmq.*RabbitMQ"),
    ({"transports": ["carrier pigeon"]}, "there are 'polling' and 'websocket'"),
])
def test_what_cannot_be_says_what_can(options, told):
    with pytest.raises(ValueError, match=told):
        SocketIO(flask.Flask("a"), **options)


def test_a_manager_of_the_applications_names_the_option(app):
    class RedisManager:
        redis_url, channel = "redis://queue", "c"
    with pytest.raises(ValueError, match="message_queue='redis://queue', channel='c'"):
        SocketIO(app, client_manager=RedisManager())


def test_unknown_options_are_warned_of(app, caplog):
    SocketIO(app, cors_allowed_origin="*", always_conect=True)
    assert "did you mean 'cors_allowed_origins'?" in caplog.text and "did you mean 'always_connect'?" in caplog.text


@pytest.mark.parametrize("options, settings", [
    ({}, {}),
    ({"certfile": "c.pem", "keyfile": "k.pem"}, {"tls_cert": "c.pem", "tls_key": "k.pem"}),
    ({"certfile": "both.pem"}, {"tls_cert": "both.pem", "tls_key": "both.pem"}),
    ({"ssl_context": ("c.pem", "k.pem")}, {"tls_cert": "c.pem", "tls_key": "k.pem"}),
])
def test_tls(options, settings):
    assert _options.tls(options) == settings and options == {}


def test_a_context_of_ssl_cannot_be_taken():
    with pytest.raises(ValueError, match="certfile=.. and keyfile=.."):
        _options.tls({"ssl_context": "adhoc"})


@pytest.mark.parametrize("room", ["a", "", "1", "\u00e9", 1, -7, 2.5, True])
def test_rooms_keep_their_kind(room):
    assert room_of(name_of(room)) == room and type(room_of(name_of(room))) is type(room)


def test_receivers():
    assert names_of(None) is None
    assert names_of("a") == names_of(["a"]) == names_of(("a",)) == names_of({"a"}) == ["a"]
    with pytest.raises(TypeError, match="a room is a str or a number, not bytes"):
        name_of(b"x")


def test_what_can_be_read_back(app):
    socketio = SocketIO(app, allow_upgrades=False, cookie="io", ping_interval=7)
    assert (socketio.server.eio.allow_upgrades, socketio.server.eio.cookie, socketio.server.eio.ping_interval) == (False, "io", 7)
    assert socketio.server.eio.ping_timeout == 20 and socketio.async_mode == socketio.server.async_mode == "threading"
    assert app.extensions["socketio"] is socketio
    with pytest.raises(AttributeError, match="use emit"):
        socketio.server._send_packet
    with pytest.raises(AttributeError, match="python-socketio"):
        socketio.server.manager.pending_disconnect
    with pytest.raises(NotImplementedError, match="admin-ui"):
        socketio.server.instrument()


def test_what_is_registered_is_kept_until_the_application_is_there(app):
    socketio = SocketIO(ping_timeout=3)
    socketio.on_event("e", print)
    socketio.on_namespace(Namespace("/n"))
    socketio.init_app(app, ping_interval=4)
    assert socketio.handlers == [("e", print, "/")] and socketio.namespace_handlers[0].server is socketio.server
    assert socketio._registered() == {"/", "/n"}
    assert _options.settings(socketio.server_options) == {"channel": "flask-socketio", "ping_timeout": "3", "ping_interval": "4"}


def test_a_process_that_only_sends(monkeypatch):
    socketio = SocketIO(message_queue="redis://127.0.0.1:1")
    assert socketio.server_options["client_manager"].write_only
    with pytest.raises(RuntimeError, match="Callbacks can only be issued"):
        socketio.emit("e", 1, to="a", callback=print)
    with pytest.raises(RuntimeError, match="does not run"):
        socketio.server.rooms("x")


def test_static_files_are_python_s_where_code_has_a_say(tmp_path):
    from flask_shardcast._run import _folders

    def made(change):
        app = flask.Flask("a", static_folder=str(tmp_path))
        change(app)
        return _folders(app)

    served = [(f"/{tmp_path.name}", str(tmp_path))]
    assert made(lambda app: None) == served
    assert made(lambda app: app.before_request(print)) == made(lambda app: app.after_request(print)) == []
    assert made(lambda app: setattr(app, "wsgi_app", print)) == []
    assert made(lambda app: app.add_url_rule(f"/{tmp_path.name}/own", "own", print)) == []
    assert made(lambda app: app.config.update(SEND_FILE_MAX_AGE_DEFAULT=60)) == []
    assert _folders(flask.Flask("a", static_folder=None)) == []

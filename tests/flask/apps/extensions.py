"""What applications have around Flask-SocketIO: logins, sessions on disk, blueprints, a factory, a broker. `extensions:create_app()`."""

import os

from flask import Blueprint, Flask, jsonify, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_session import Session
from flask_socketio import SocketIO, disconnect, emit, join_room

socketio = SocketIO()
login = LoginManager()
chat = Blueprint("chat", __name__, url_prefix="/chat")


class User(UserMixin):
    def __init__(self, id):
        self.id = id


@login.user_loader
def load_user(id):
    return User(id)


@chat.route("/login/<name>")
def log_in(name):
    login_user(User(name))
    return "", 204


@chat.route("/logout")
def log_out():
    logout_user()
    return "", 204


@chat.route("/value", methods=["GET", "POST"])
def value():
    if request.method == "POST":
        session["value"] = request.get_json()["value"]
        return "", 204
    return jsonify(value=session.get("value"), user=current_user.get_id())


@chat.route("/tell/<room>")
def tell(room):
    socketio.emit("told", {"from": current_user.get_id()}, to=room)
    return "", 204


@chat.route("/address")
def address():
    return {"address": request.remote_addr, "scheme": request.scheme, "host": request.host}


@socketio.on("connect", namespace="/members")
def members_only():
    if not current_user.is_authenticated:
        return False
    join_room(current_user.id)


@socketio.on("who", namespace="/members")
def who():
    return current_user.id


@socketio.on("get")
def get_value():
    return {"value": session.get("value"), "user": current_user.get_id()}


@socketio.on("set")
def set_value(new):
    session["value"] = new


@socketio.on("join")
def join(room):
    join_room(room)
    return True


@socketio.on("guarded")
def guarded():
    if not current_user.is_authenticated:
        disconnect()
        return None
    emit("told", current_user.id)


def create_app():
    app = Flask(__name__)
    app.config.update(SECRET_KEY="extensions", SESSION_TYPE="filesystem", SESSION_FILE_DIR=os.environ["SESSION_FOLDER"])
    if os.environ.get("PROXIES"):
        from werkzeug.middleware.proxy_fix import ProxyFix

        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)
    Session(app)
    login.init_app(app)
    app.register_blueprint(chat)
    socketio.init_app(
        app, manage_session=False, cors_allowed_origins="*", message_queue=os.environ.get("QUEUE"), async_mode="threading",
    )
    return app


if __name__ == "__main__":
    import sys

    socketio.run(create_app(), port=int(sys.argv[1]), allow_unsafe_werkzeug=True)

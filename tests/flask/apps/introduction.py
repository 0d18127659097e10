"""What introductions begin with: a page, a message, an answer, a broadcast; debug mode, as they have it."""

import sys

from flask import Flask
from flask_socketio import SocketIO, emit

app = Flask(__name__)
app.config["SECRET_KEY"] = "introduction"
socketio = SocketIO(app)
PAGE = """<!doctype html>
<html lang="en">
<title>An introduction</title>
<script src="/static/socket.io.min.js"></script>
<p id="state">not connected</p>
<ul id="log"></ul>
<form><label>Message <input name="text"></label><button>Send</button></form>
<script>
  const socket = io();
  const log = (text) => document.querySelector("#log").append(Object.assign(document.createElement("li"), { textContent: text }));
  socket.on("connect", () => { document.querySelector("#state").textContent = "connected"; });
  socket.on("disconnect", () => { document.querySelector("#state").textContent = "disconnected"; });
  socket.on("message", (text) => log(`broadcast: ${text}`));
  document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { value } = event.target.elements.text;
    socket.send(value);
    socket.emit("shout", value, (answer) => log(`answer: ${answer}`));
  });
</script>
"""


@app.route("/")
def index():
    return PAGE


@socketio.on("message")
def handle_message(message):
    print("Received message: " + message)
    emit("message", message, broadcast=True)


@socketio.on("shout")
def shout(text):
    return text.upper()


if __name__ == "__main__":
    app.static_folder = sys.argv[2]
    socketio.run(app, port=int(sys.argv[1]), debug=True, allow_unsafe_werkzeug=True)

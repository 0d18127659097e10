"""The Flask application beside the example: a login, and a page that talks to shardcast."""

import os

from flask import Flask, redirect, request, session
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
login_manager = LoginManager(app)
login_manager.login_view = "login"

PAGE = """
<!doctype html>
<title>shardcast and Flask-Login</title>
<h1>Hello, {user}</h1>
<p>You have looked at <a href="{realtime}/visits">a page of the other server</a> {visits} times. <a href="/logout">Log out</a></p>
<form><input name="text" placeholder="Say something" autocomplete="off"> <button>Say</button></form>
<ul></ul>
<script src="https://cdn.socket.io/4.8.1/socket.io.min.js"></script>
<script>
  const show = (text) => document.querySelector("ul").append(Object.assign(document.createElement("li"), {{ textContent: text }}));
  const socket = io("{realtime}", {{ withCredentials: true }});
  socket.on("entered", (user) => show(`${{user}} is here`));
  socket.on("left", (user) => show(`${{user}} has left`));
  socket.on("said", (user, text) => show(`${{user}}: ${{text}}`));
  socket.on("connect_error", (error) => show(error.message));
  document.forms[0].onsubmit = (event) => {{
    event.preventDefault();
    socket.emit("say", event.target.text.value);
    event.target.reset();
  }};
</script>
"""


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@login_manager.user_loader
def load_user(name):
    return User(name)


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        login_user(User(request.form["name"]))
        return redirect("/")
    return '<form method="post"><input name="name" placeholder="Your name"> <button>Log in</button></form>'


@app.route("/logout")
def logout():
    logout_user()
    return redirect("/login")


@app.route("/")
@login_required
def index():
    realtime = os.environ.get("REALTIME", "http://127.0.0.1:5000")
    return PAGE.format(user=current_user.id, visits=session.get("visits", 0), realtime=realtime)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "5001")))

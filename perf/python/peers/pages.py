"""The page of `flask_app.py` alone, for servers of pages: gunicorn and granian. They load `pages:app`."""

from flask import Flask

app = Flask(__name__)


@app.route("/hello")
def hello():
    return "hello"

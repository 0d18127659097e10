"""`python -m flask_shardcast`: applications that are run unchanged, as processes of their own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from conftest import PATIENCE_SECONDS, wait_until

SCRIPT = """
import eventlet_or_not
from flask import Flask, request
from flask_socketio import SocketIO, emit

app = Flask(__name__)
app.config['SECRET_KEY'] = 'secret!'
socketio = SocketIO(app, async_mode='eventlet', cors_allowed_origin='*')

@app.route('/')
def index():
    return 'page of %s' % __name__

@socketio.on('echo')
def echo(value):
    emit('came', value)
    return value

@socketio.event
def stop():
    socketio.stop()
"""

RUN = "\nif __name__ == '__main__':\n    socketio.run(app, port=0{options})\n"


class Process:
    def __init__(self, folder, *arguments, **environment):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.process = subprocess.Popen([sys.executable, "-m", "flask_shardcast", *arguments], cwd=folder, env=environment,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self):
        return "".join(self.lines)

    def url(self, times=1):
        wait_until(lambda: self.process.poll() is not None or self.output.count("serving on") >= times, "a line that says where")
        found = re.findall(r"serving on (\S+)", self.output)
        assert len(found) >= times, self.output
        return found[-1]

    def wait(self):
        code = self.process.wait(PATIENCE_SECONDS)
        time.sleep(0.1)
        return code

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def start(tmp_path):
    """Writes `app.py` into a folder of its own, and starts processes there."""
    processes = []

    def run(source, *arguments, **environment):
        (tmp_path / "app.py").write_text(source)
        (tmp_path / "eventlet_or_not.py").write_text("")
        processes.append(Process(tmp_path, *arguments, **environment))
        return processes[-1]

    yield run
    for process in processes:
        process.end()


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        return answer.read().decode()


def test_a_script_runs_unchanged(start, connect):
    process = start(SCRIPT + RUN.format(options=""), "app.py")
    url = process.url()
    assert get(url) == "page of __main__"
    client = connect(url)
    assert client.call("echo", {"a": [1]}, timeout=PATIENCE_SECONDS) == {"a": [1]}
    # A misspelt option is named, and does not keep the application from starting.
    assert "cors_allowed_origin" in process.output and "did you mean 'cors_allowed_origins'" in process.output
    client.emit("stop")
    assert process.wait() == 0


@pytest.mark.parametrize("program, source, page", [
    ("app.py", SCRIPT, "page of __main__"),
    ("app:app", SCRIPT, "page of app"),
    ("app:socketio", SCRIPT, "page of app"),
    ("app", SCRIPT, "page of app"),
    ("app:create()", SCRIPT + "\ndef create():\n    return app\n", "page of app"),
    ("app.py", SCRIPT + "\nif __name__ == '__main__':\n    app.run(port=1)\n", "page of __main__"),
])
def test_ways_to_name_an_application(start, connect, program, source, page):
    process = start(source, "--bind", "127.0.0.1:0", "--shards=1", "--threads", "3", program)
    url = process.url()
    assert get(url) == page
    assert connect(url).call("echo", 1, timeout=PATIENCE_SECONDS) == 1
    os.kill(process.process.pid, signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it(start, connect, signal_sent):
    source = SCRIPT + "\n@socketio.on('disconnect')\ndef gone(reason):\n    print('gone:', reason)\n"
    process = start(source, "--bind=127.0.0.1:0", "app.py")
    client = connect(process.url())
    assert client.call("echo", 1, timeout=PATIENCE_SECONDS) == 1
    os.kill(process.process.pid, signal_sent)
    assert process.wait() == 0
    assert "gone: server disconnect" in process.output and "Traceback" not in process.output


@pytest.mark.parametrize("arguments, told", [
    ([], "no application is named"),
    (["--no-such-setting", "1", "app.py"], "unknown option --no-such-setting"),
    (["--pin-shard", "app.py"], "did you mean --pin-shards"),
    (["--threads", "many", "app.py"], "--threads many: it is a number"),
    (["--shards", "x", "--bind", "127.0.0.1:0", "app.py"], "shards = "),
    (["app:nothing"], "app has no 'nothing'"),
    (["no_such_module:app"], "No module named 'no_such_module'"),
    (["app.py"], "has no Flask application"),
])
def test_mistakes_are_named(start, arguments, told):
    source = "" if arguments == ["app.py"] else SCRIPT
    process = start(source, *arguments)
    assert process.wait() != 0
    assert told in process.output


def test_an_error_in_the_application_is_its_traceback(start):
    process = start("from flask_socketio import SocketIO\nimport no_such_thing\n", "app.py")
    assert process.wait() == 1
    assert "ModuleNotFoundError: No module named 'no_such_thing'" in process.output


def test_help_and_settings(start):
    process = start("", "--help")
    assert process.wait() == 0 and "usage: python -m flask_shardcast" in process.output
    process = start("", "--settings")
    assert process.wait() == 0 and "--ping-interval" in process.output


def test_the_environment_wins_over_the_program(start):
    process = start(SCRIPT + RUN.format(options=""), "app.py", SHARDCAST_PATH="/other.io/")
    url = process.url()
    assert '"sid"' in get(url + "/other.io/?EIO=4&transport=polling")
    with pytest.raises(urllib.error.HTTPError):
        get(url + "/socket.io/?EIO=4&transport=polling")


def test_debug_mode(start, tmp_path):
    source = SCRIPT + "\n@app.route('/fail')\ndef fail():\n    raise KeyError('in debug mode')\n" + RUN.format(options=", debug=True")
    process = start(source.replace("port=0", "port=int(__import__('os').environ['APP_PORT'])"), "app.py", APP_PORT=str(free_port()))
    url = process.url()
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url + "/fail")
    page = error.value.read().decode()
    assert error.value.code == 500 and "Werkzeug" in page and "in debug mode" in page
    # A change of the source starts it anew.
    changed = (tmp_path / "app.py").read_text().replace("page of %s", "changed page of %s")
    time.sleep(1.5)
    (tmp_path / "app.py").write_text(changed)
    assert get(process.url(times=2)) == "changed page of __main__"
    assert '"GET /' in process.output


def free_port():
    from conftest import free_port
    return free_port()

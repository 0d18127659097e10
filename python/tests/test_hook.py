"""`import flask_socketio`, monkey patching, and the package as it is installed."""

import subprocess
import sys

PROGRAM = """
import sys
from flask_shardcast import install
install()
install()
{}
"""


def run(program, folder):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(program)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_module_is_ours(tmp_path):
    assert run("from flask_socketio import SocketIO, emit\nfrom flask_socketio.namespace import Namespace\nimport flask_socketio\n"
               "from flask_socketio.test_client import SocketIOTestClient\nprint(flask_socketio.SocketIO.__module__)",
               tmp_path) == "flask_shardcast._socketio"


def test_a_module_of_that_name_is_not_looked_for(tmp_path):
    (tmp_path / "flask_socketio.py").write_text("raise RuntimeError('the other one')")
    assert run("import flask_socketio; print(flask_socketio.__name__)", tmp_path) == "flask_shardcast"


def test_monkey_patching_does_nothing(tmp_path):
    (tmp_path / "eventlet.py").write_text("def monkey_patch(**_):\n    raise RuntimeError('patched')\nvalue = 7\n")
    folder = tmp_path / "gevent"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "monkey.py").write_text("def patch_all(**_):\n    raise RuntimeError('patched')\n")
    program = "import eventlet\neventlet.monkey_patch()\nfrom gevent import monkey\nmonkey.patch_all()\nprint(eventlet.value)"
    assert run(program, tmp_path) == "7"


def test_an_error_of_python_socketio_is_caught_where_it_is_imported():
    from socketio.exceptions import ConnectionRefusedError, TimeoutError

    from flask_shardcast import TimeoutError as Ours
    from flask_shardcast._errors import refused_by, timed_out
    assert isinstance(timed_out("x"), TimeoutError) and isinstance(timed_out("x"), Ours)
    assert refused_by(ConnectionRefusedError("no", 1)) == {"message": "no", "data": 1}
    assert refused_by(KeyError("no")) is None

"""Flask-SocketIO's own tests, from its source distribution, unmodified: against itself, then against shardcast.

On each interpreter and each Flask that scripts/test-python.sh has installed the wheel for, and on several numbers of shards.
"""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import interpreter

#: How many there are at the least: a run that collects fewer has not found them.
TESTS_MIN = 40
SECONDS_MAX = 120
# `python -m flask_shardcast` puts its module in the place of theirs, for pytest as for any other program.
PROGRAM = "import sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))\n"


def environments():
    return [pathlib.Path(path) for path in os.environ.get("FRONT_PYTHONS", "").split(":") if path]


def name_of(python):
    return python.parent.parent.name.removeprefix("venv-")


def run(words, folder, *options, **environment):
    suite = pathlib.Path(os.environ["FLASK_SOCKETIO_SDIST"]) / "test_socketio.py"
    assert suite.exists(), "the source distribution has no test_socketio.py"
    (folder / "program.py").write_text(PROGRAM)
    (folder / "test_socketio.py").write_bytes(suite.read_bytes())
    return subprocess.run(
        [*map(str, words), "program.py", "-q", "-p", "no:cacheprovider", "--tb=short", *options, "test_socketio.py"], cwd=folder, text=True,
        capture_output=True, timeout=SECONDS_MAX, env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )


def check(done, deselected=0):
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    summary = done.stdout.strip().splitlines()[-1]
    assert int(re.search(r"(\d+) passed", summary).group(1)) >= TESTS_MIN, summary
    assert "skipped" not in summary and summary.count("deselected") == deselected, summary


def test_upstream_itself(tmp_path):
    """But for a test that is a race between two threads there, which a busy machine loses."""
    race = "test_socketio.py::TestSocketIO::test_background_task"
    check(run([interpreter("flask-socketio")], tmp_path, f"--deselect={race}"), deselected=1)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_on_shards(shards, tmp_path):
    check(run([interpreter("shardcast"), "-m", "flask_shardcast"], tmp_path, SHARDCAST_SHARDS=str(shards)))


@pytest.mark.parametrize("python", environments(), ids=name_of)
def test_on(python, tmp_path):
    check(run([python, "-m", "flask_shardcast"], tmp_path, SHARDCAST_SHARDS="2"))


def test_there_are_interpreters():
    assert len(environments()) >= 2, "FRONT_PYTHONS names too few: run the suites through scripts/test-python.sh"


def test_what_runs_is_ours(tmp_path):
    """The module that those tests import is this package's, and Flask-SocketIO is not installed beside it."""
    (tmp_path / "which.py").write_text("import flask_socketio\nprint(flask_socketio.SocketIO.__module__)\n")
    done = subprocess.run(
        [interpreter("shardcast"), "-c", "import importlib.metadata as m; print([d.name.lower() for d in m.distributions()])"],
        capture_output=True, text=True, check=True,
    )
    assert "'flask-shardcast'" in done.stdout.replace("_", "-") and "flask-socketio" not in done.stdout.replace("_", "-")

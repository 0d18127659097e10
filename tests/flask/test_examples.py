"""The programs of Flask-SocketIO's manual, its example applications, and a page in Chromium: on both servers, with equal outcome.

The manual is in its source distribution. The example applications are in no package: FLASK_SOCKETIO_SOURCE names a checkout.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import textwrap

import pytest

from conftest import HERE, ROOT, SIDES, interpreter

JS = ROOT / "tests/clients/js"
#: How many programs the manual has at the least, and how many of them are about events.
PROGRAMS_MIN, PROGRAMS_WITH_EVENTS_MIN = 22, 14
EXAMPLES = ("app", "app_namespace", "sessions")
#: What their pages load from elsewhere, with checksums: the same files from npm.
SCRIPTS = {
    "jquery.min.js": ("jquery@3.5.1", "dist/jquery.min.js"), "socket.io.min.js": ("socket.io-client@4.7.5", "dist/socket.io.min.js"),
    "socket.io-3.0.4.js": ("socket.io-client@3.0.4", "dist/socket.io.js"),
}


def programs():
    """The blocks of code that are Python, by file and line."""
    folder = os.environ.get("FLASK_SOCKETIO_SDIST")
    found = {}
    for name in ("getting_started", "implementation_notes", "deployment") if folder else ():
        lines = (pathlib.Path(folder) / f"docs/{name}.rst").read_text().splitlines()
        at = 0
        while at < len(lines):
            if not lines[at].endswith("::") or lines[at].startswith(".. "):
                at += 1
                continue
            begin = at = at + 1
            while at < len(lines) and (not lines[at] or lines[at].startswith("    ")):
                at += 1
            block = textwrap.dedent("\n".join(lines[begin:at])).strip("\n") + "\n"
            try:
                compile(block, name, "exec")
            except SyntaxError:
                continue
            found[f"{name}:{begin}"] = block
    return found


PROGRAMS = programs()


def outcome(side, block, folder):
    (folder / "block.py").write_text(block)
    launcher = ["-m", "flask_shardcast"] if side == "shardcast" else []
    done = subprocess.run(
        [interpreter(side), "-W", "ignore", *launcher, HERE / "apps/manual.py", folder / "block.py"], capture_output=True, text=True, timeout=60, cwd=folder,
    )
    assert done.stdout.startswith("{"), f"{side}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_manual(name, tmp_path):
    theirs, ours = (outcome(side, PROGRAMS[name], tmp_path) for side in SIDES)
    # A text that names a class by its module is the only thing that may differ.
    assert theirs == ours, PROGRAMS[name]


def test_the_manual_was_found():
    assert len(PROGRAMS) >= PROGRAMS_MIN, list(PROGRAMS)
    assert sum("socketio.on" in block or "socketio.event" in block or "Namespace" in block for block in PROGRAMS.values()) >= PROGRAMS_WITH_EVENTS_MIN


def in_chromium(name, app, folder=""):
    done = subprocess.run(["node", HERE / "clients/browser.mjs", name, app.url, folder], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    # Flask-SocketIO on Werkzeug's server ends WebSockets so that Chromium complains.
    assert app.side != "shardcast" or not found["complaints"], found
    return found["seen"]


def test_an_introduction_in_chromium(start, side, tmp_path):
    shutil.copy(JS / "node_modules/socket.io-client/dist/socket.io.min.js", tmp_path)
    app = start(side, "introduction.py", "{port}", tmp_path)
    assert "broadcast: hello" in in_chromium("introduction", app)[0]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for name, (package, path) in SCRIPTS.items():
        packed = json.loads(subprocess.run(["npm", "pack", "--json", package], cwd=folder, capture_output=True, text=True, check=True).stdout)
        subprocess.run(["tar", "-xzf", packed[0]["filename"], f"package/{path}"], cwd=folder, check=True)
        shutil.move(folder / "package" / path, folder / name)
    return folder


@pytest.mark.skipif("FLASK_SOCKETIO_SOURCE" not in os.environ, reason="FLASK_SOCKETIO_SOURCE names no checkout of Flask-SocketIO")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_application_in_chromium(start, name, scripts, tmp_path):
    """As it is: no byte changed. `run` of shardcast is told the port on the command line; Flask-SocketIO's by the application's SERVER_NAME."""
    seen = []
    for side in SIDES:
        folder = tmp_path / side
        shutil.copytree(pathlib.Path(os.environ["FLASK_SOCKETIO_SOURCE"]) / "example", folder)
        seen.append(in_chromium(name, example(start, side, name, folder), scripts))
    assert re.sub(r"\d+ms", "", json.dumps(seen[0])) == re.sub(r"\d+ms", "", json.dumps(seen[1]))


def example(start, side, name, folder):
    from conftest import free_port

    port = free_port()
    if side == "shardcast":
        return start(side, f"{name}.py", folder=folder, port=port, options=["--bind", f"127.0.0.1:{port}", "--shards", "2"])
    # The applications end in `socketio.run(app)`: another port needs another caller.
    (folder / "caller.py").write_text(f"import {name} as example\nexample.socketio.run(example.app, port={port}, allow_unsafe_werkzeug=True)\n")
    return start(side, "caller.py", folder=folder, port=port)

"""The wheel as a user gets it."""

import json
import os
import pathlib
import re
import subprocess
import zipfile

from conftest import interpreter


def wheel():
    return pathlib.Path(os.environ["FRONT_WHEEL"])


def ours(*words, **options):
    return subprocess.run([interpreter("shardcast"), *words], capture_output=True, text=True, timeout=60, **options)


def test_one_wheel_is_for_every_python():
    assert re.fullmatch(r"flask_shardcast-[\d.]+-cp310-abi3-(many)?linux\w+\.whl", wheel().name), wheel().name


def test_the_wheel_holds_the_package_alone():
    with zipfile.ZipFile(wheel()) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    tops = {name.split("/")[0] for name in names}
    # Nothing called flask_socketio: two packages must not own one folder.
    assert {top for top in tops if not re.search(r"\.(dist-info|libs)$", top)} == {"flask_shardcast"}, tops
    assert {"flask_shardcast/py.typed", "flask_shardcast/__init__.py", "flask_shardcast/__main__.py"} <= set(names)
    assert any(name.endswith(".pyi") for name in names), "the native module has no stub"
    assert not [name for name in names if "/tests/" in name or name.endswith((".rs", ".pyc"))]
    assert re.search(r"^Requires-Python: >=3\.10$", metadata, re.M) and re.search(r"^Requires-Dist: flask", metadata, re.M | re.I)
    assert any("LICENSE" in name for name in names)


def test_it_needs_flask_alone(tmp_path):
    done = ours("-c", "import flask_shardcast, sys; print(sorted({m.split('.')[0] for m in sys.modules} & {'socketio', 'engineio', 'gevent', 'eventlet', 'redis'}))")
    assert done.stdout.strip() == "[]", done


def test_one_changed_import(tmp_path):
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom flask_shardcast import SocketIO, emit, join_room\napp = Flask(__name__)\nsocketio = SocketIO(app)\n"
        "@socketio.on('echo')\ndef echo(x):\n    return x\nprint(socketio.test_client(app).emit('echo', 7, callback=True))\n"
    )
    done = ours("app.py", cwd=tmp_path)
    assert done.stdout.strip() == "7", done


def test_its_names_are_flask_socketios():
    program = "import {} as m; print(sorted(n for n in dir(m) if not n.startswith('_') and callable(getattr(m, n))))"
    theirs = subprocess.run([interpreter("flask-socketio"), "-c", program.format("flask_socketio")], capture_output=True, text=True, check=True).stdout
    mine = ours("-c", program.format("flask_shardcast")).stdout
    public = {name for name in eval(theirs) if not name.startswith("has_")} - {"wraps", "run_with_reloader", "get_debug_type"}
    documented = {"SocketIO", "Namespace", "emit", "send", "call", "join_room", "leave_room", "close_room", "rooms", "disconnect", "ConnectionRefusedError", "SocketIOTestClient"}
    assert documented <= public, public
    assert documented <= set(eval(mine)), mine


def test_methods_and_arguments_are_theirs():
    """Each public method of SocketIO and Namespace, and each function, takes the arguments by name that Flask-SocketIO's does."""
    program = (
        "import inspect, json, {0} as m\n"
        "def of(f):\n"
        "    try: return [p.name for p in inspect.signature(f).parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != 'self']\n"
        "    except (TypeError, ValueError): return []\n"
        "print(json.dumps({{c + '.' + n: of(f) for c in ('SocketIO', 'Namespace', 'SocketIOTestClient') for n, f in inspect.getmembers(getattr(m, c), callable) if not n.startswith('_')}}))"
    )
    theirs = json.loads(subprocess.run([interpreter("flask-socketio"), "-c", program.format("flask_socketio")], capture_output=True, text=True, check=True).stdout)
    mine = json.loads(ours("-c", program.format("flask_shardcast")).stdout)
    missing = sorted(set(theirs) - set(mine))
    assert missing == [], missing
    lacks = {name: sorted(set(names) - set(mine[name])) for name, names in theirs.items() if set(names) - set(mine[name])}
    # Those that take `**kwargs` here answer for their arguments in the other suites.
    variable = ours("-c", "import inspect, flask_shardcast as m\nprint([c + '.' + n for c in ('SocketIO', 'Namespace', 'SocketIOTestClient') for n, f in inspect.getmembers(getattr(m, c), callable) if not n.startswith('_') and any(p.kind == p.VAR_KEYWORD for p in inspect.signature(f).parameters.values())])").stdout
    assert {name: names for name, names in lacks.items() if name not in eval(variable)} == {}

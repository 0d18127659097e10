#!/usr/bin/env bash
# Builds the wheel of flask-shardcast, installs it as a user does, and runs the suites of tests/flask.
#
#   scripts/test-python.sh [SUITE...]     SUITES: package own upstream behaviours examples extensions faults soak
#   WHEEL=FILE scripts/test-python.sh     with a wheel that is there
#   PYTHONS="3.11" scripts/test-python.sh with these interpreters alone; each must be there. Default: all that are
#
# Flask-SocketIO's own tests come from its source distribution, its example applications from a checkout of it that
# FLASK_SOCKETIO_SOURCE names: those are in no package. UPDATE=1 writes the table of tests/flask/README.md anew.
set -euo pipefail
cd "$(dirname "$0")/.."

SUITES=("$@")
[ ${#SUITES[@]} -gt 0 ] || SUITES=(package own upstream behaviours examples extensions faults soak)
FLASK_OLDEST="flask==2.2.* werkzeug==2.2.*"
# What only some tests import, and both servers have.
EXTENSIONS="flask-login flask-session cachelib redis msgpack gevent requests python-socketio[client]"
TARGET_DIR="${CARGO_TARGET_DIR:-target}"
HOME_DIR="$TARGET_DIR/python"
SUITE_SECONDS=600

fail() { echo "test-python: $*" >&2; exit 1; }

# An interpreter by its version: on the path, or among those that pyenv has.
find_python() { # version
  local found
  for found in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    # A shim of pyenv is there for versions that are not chosen, too: only one that runs counts.
    [ -n "$found" ] && [ -x "$found" ] && "$found" -c "import sys, venv; assert sys.version_info[:2] == tuple(map(int, '$1'.split('.')))" 2>/dev/null \
      && { echo "$found"; return; }
  done
  return 1
}

venv() { # folder version packages...
  local folder=$1 python
  python=$(find_python "$2") || fail "CPython $2 is missing: install it, or say with PYTHONS which there are"
  rm -rf "$folder"
  "$python" -m venv "$folder" || fail "no virtual environment could be made with $python"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${@:3}" || fail "pip could not install ${*:3} for CPython $2"
}

# The wheel is for CPython 3.10 and later. Without a choice each that is here is used, and those that are not are named.
MISSING=
if [ -z "${PYTHONS:-}" ]; then
  PYTHONS=
  for version in 3.10 3.11 3.12 3.13 3.14 3.15; do
    if find_python $version >/dev/null; then PYTHONS+=" $version"; else MISSING+=" $version"; fi
  done
  PYTHONS=${PYTHONS# }
fi
[ -n "$PYTHONS" ] || fail "CPython is missing: install 3.10 or later"
[ -z "$MISSING" ] || echo "CPython$MISSING: not here, so not tested"
# What runs the servers, unless a test is about another one.
case " $PYTHONS " in *" 3.11 "*) PYTHON_MAIN=3.11 ;; *) PYTHON_MAIN=${PYTHONS##* } ;; esac

# The same by the pip of the peer's environment: a pip of its own for each is most of the time that they take.
quick_venv() { # folder version packages...
  local folder=$1 python
  python=$(find_python "$2") || fail "CPython $2 is missing: install it, or say with PYTHONS which there are"
  rm -rf "$folder"
  "$python" -m venv --without-pip "$folder" || fail "no virtual environment could be made with $python"
  "$PEER/bin/python" -m pip --python "$folder/bin/python" install --quiet --disable-pip-version-check "${@:3}" \
    || fail "pip could not install ${*:3} for CPython $2"
}

mkdir -p "$HOME_DIR"
if [ -z "${WHEEL:-}" ]; then
  make --no-print-directory wheel || fail "the wheel could not be built"
  WHEEL=$(ls -t "$TARGET_DIR"/wheels/flask_shardcast-*.whl 2>/dev/null | head -n 1)
fi
[ -f "${WHEEL:-}" ] || fail "there is no wheel in $TARGET_DIR/wheels"
echo "wheel: $WHEEL, $(stat -c %s "$WHEEL") bytes"

# Flask-SocketIO and the clients are those of the real clients' tests, with what some tests need besides.
began=$SECONDS
PEER=.deps/venv-flask
if ! [ -x $PEER/bin/pytest ] || [ "$(cat $PEER/.stamp 2>/dev/null)" != "$(sha256sum tests/flask/requirements.txt)" ]; then
  venv $PEER $PYTHON_MAIN -r tests/flask/requirements.txt
  sha256sum tests/flask/requirements.txt >$PEER/.stamp
fi
# Each interpreter with the newest Flask, and the oldest with the first of them.
OURS=()
for version in $PYTHONS; do
  quick_venv "$HOME_DIR/venv-$version" "$version" "$WHEEL" pytest redis &
  OURS+=("$HOME_DIR/venv-$version")
done
quick_venv "$HOME_DIR/venv-oldest" "${PYTHONS%% *}" "$WHEEL" pytest redis $FLASK_OLDEST &
OURS+=("$HOME_DIR/venv-oldest")
venv "$HOME_DIR/venv" "$PYTHON_MAIN" "$WHEEL" pytest $EXTENSIONS &
for job in $(jobs -p); do wait "$job" || exit 1; done
for each in "${OURS[@]}" "$HOME_DIR/venv"; do [ -x "$each/bin/pytest" ] || fail "$each was not made"; done

# What is not ours to keep: fetched, and unpacked into the target folder.
UPSTREAM="$HOME_DIR/upstream"
rm -rf "$UPSTREAM" && mkdir -p "$UPSTREAM"
"$PEER/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary flask-socketio --dest "$UPSTREAM" flask-socketio \
  || fail "the source of flask-socketio could not be fetched"
tar -xzf "$UPSTREAM"/*.tar.gz -C "$UPSTREAM" --strip-components=1
echo "environments: $((SECONDS - began)) s: ${OURS[*]##*/}, Flask-SocketIO $("$PEER/bin/python" -c 'import importlib.metadata as m; print(m.version("flask-socketio"))')"

export FLASK_PYTHON="$PWD/$PEER/bin/python" FRONT_PYTHON="$PWD/$HOME_DIR/venv/bin/python"
export FLASK_SOCKETIO_SDIST="$PWD/$UPSTREAM" FRONT_WHEEL; FRONT_WHEEL=$(realpath "$WHEEL")
FRONT_PYTHONS=$(printf "$PWD/%s/bin/python:" "${OURS[@]}")
export FRONT_PYTHONS=${FRONT_PYTHONS%:} SCREENSHOTS="$PWD/$TARGET_DIR/screenshots"
mkdir -p "$SCREENSHOTS"
[ -n "${FLASK_SOCKETIO_SOURCE:-}" ] || echo "FLASK_SOCKETIO_SOURCE names no checkout: Flask-SocketIO's three example applications are not run"

# Most of their time tests wait: several beside each other. Those of memory and of threads' order have the machine to themselves.
run() { # suite
  local pytest=("$PEER/bin/pytest" -q -p no:cacheprovider --tb=short)
  case "$1" in
    own) "$HOME_DIR/venv/bin/python" -m pytest -q -p no:cacheprovider --tb=short python/tests ;;
    soak | behaviours) "${pytest[@]}" "tests/flask/test_$1.py" ;;
    package | upstream | examples | extensions | faults) "${pytest[@]}" -n 4 "tests/flask/test_$1.py" ;;
    *) echo "no such suite: $1"; return 1 ;;
  esac
}
export -f run
export PEER HOME_DIR
failed=()
for suite in "${SUITES[@]}"; do
  echo "== python: $suite"
  began=$SECONDS
  timeout --kill-after=5 $SUITE_SECONDS bash -c "run $suite" || failed+=("$suite")
  echo "== python: $suite: $((SECONDS - began)) s"
done
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
echo "all suites of the Python front passed: ${SUITES[*]}; on CPython $PYTHONS${MISSING:+, and not on$MISSING}"

#!/usr/bin/env bash
# Builds the Python wheel into wheels/ of the target folder: one for CPython 3.10 and later, of the machine's kind. Needs a Rust
# toolchain and a Python with venv; maturin comes by pip, into .deps.
#
#   scripts/build-wheel.sh [OPTION OF MATURIN...]    --profile dev for a quick build that is slow to run
#
# Its tag is the oldest glibc that the machine's own fits. For manylinux2014: pip install ziglang in .deps/venv-maturin, then --zig.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.deps/venv-maturin
MATURIN=maturin==1.16.0
PYTHON=${PYTHON:-python3}
OUT=${CARGO_TARGET_DIR:-target}/wheels

fail() { echo "build-wheel: $*" >&2; exit 1; }
command -v cargo >/dev/null || fail "cargo is missing; install Rust 1.88 or later with rustup"
command -v "$PYTHON" >/dev/null || fail "$PYTHON is missing; PYTHON names another"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$PYTHON is older than 3.10; PYTHON names another"

if [ "$("$VENV/bin/pip" freeze 2>/dev/null | grep -i '^maturin==')" != "$MATURIN" ]; then
  "$PYTHON" -m venv --clear "$VENV" || fail "$PYTHON has no venv (Debian: python3-venv)"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check "$MATURIN" || fail "pip could not install $MATURIN"
fi

profile=(--release --strip)
for option in "$@"; do
  [ "$option" != --profile ] || profile=()
done
exec "$VENV/bin/maturin" build --manifest-path python/Cargo.toml --locked --out "$OUT" --interpreter "$PYTHON" "${profile[@]}" "$@"

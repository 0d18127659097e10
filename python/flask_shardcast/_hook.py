"""``import flask_socketio`` finds this package: for applications that are run unchanged."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import types
from collections.abc import Callable
from typing import Any

log = logging.getLogger("flask_shardcast")

NAME = "flask_socketio"

#: Functions that make a process's threads into greenlets, which have no place here.
_PATCHES = {"gevent.monkey": ("patch_all", "patch_thread", "patch_time", "patch_socket"), "eventlet": ("monkey_patch",)}


def install() -> None:
    """From now on `flask_socketio` is this package, and monkey patching does nothing."""
    import flask_shardcast

    from . import _namespace, _test_client
    sys.modules[NAME] = flask_shardcast
    sys.modules[f"{NAME}.namespace"] = _namespace
    sys.modules[f"{NAME}.test_client"] = _test_client
    if not any(isinstance(finder, _Unpatched) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Unpatched())
    for name in _PATCHES:
        if name in sys.modules:
            _leave_out(sys.modules[name], name)


class _Unpatched(importlib.abc.MetaPathFinder):
    """Looks on when gevent or eventlet is imported, and takes its functions for monkey patching away.

    Threads of the pool run no hub: a lock or a sleep that became a greenlet's would wait for ever there. What monkey patching is for,
    many clients at a time, is done without it.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _PATCHES:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, fullname)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        _leave_out(module, self._name)


def _leave_out(module: types.ModuleType, name: str) -> None:
    for function in _PATCHES[name]:
        if hasattr(module, function):
            setattr(module, function, _ignored(f"{name}.{function}"))


def _ignored(name: str) -> Callable[..., None]:
    def ignored(*_args: Any, **_kwargs: Any) -> None:
        log.info("%s() is not needed here, and was left out", name)
    return ignored

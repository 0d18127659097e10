"""Pages: a request that no Socket.IO path and no folder of static files answers is given to the Flask application, by WSGI (PEP 3333)."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._context import complete

if TYPE_CHECKING:
    from ._native import Exchange
    from ._socketio import SocketIO

log = logging.getLogger("flask_shardcast")
access = logging.getLogger("flask_shardcast.access")

#: Bytes of a file that are read and written at a time.
_FILE_BLOCK_BYTES = 64 * 1024


class _Input(io.RawIOBase):
    """A request's body that comes while it is read."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        piece = self._exchange.read(len(into))
        into[: len(piece)] = piece
        return len(piece)


class FileWrapper:
    """``wsgi.file_wrapper``: a file that is sent without a Python object for each of its blocks."""

    def __init__(self, file: Any, block_size: int = _FILE_BLOCK_BYTES) -> None:
        self.file = file
        self.block_size = block_size

    def close(self) -> None:
        close = getattr(self.file, "close", None)
        if close is not None:
            close()

    def seekable(self) -> bool:
        seekable = getattr(self.file, "seekable", None)
        return bool(seekable and seekable())

    def seek(self, *args: Any) -> None:
        self.file.seek(*args)

    def tell(self) -> Any:
        return self.file.tell()

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block = self.file.read(self.block_size)
        if not block:
            raise StopIteration
        return block


class _Answer:
    """What an application says with ``start_response``, and how far the answer is."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.length: int | None = None
        self.has_begun = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self.has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("start_response was called twice")
        self.status = int(status[:3])
        self.headers = headers
        self.length = None
        for name, value in headers:
            if name.lower() == "content-length":
                self.length = int(value)
        return self.write

    def write(self, piece: bytes) -> None:
        if not self.has_begun:
            if not self.status:
                raise AssertionError("the answer has a body before start_response was called")
            self.has_begun = True
            self.exchange.begin(self.status, self.headers, self.length)
        if piece:
            self.exchange.write(piece)

    def send(self, answer: Iterable[bytes]) -> None:
        if isinstance(answer, FileWrapper) and self.status and self._send_file(answer.file):
            return
        pieces = iter(answer)
        first = next(pieces, b"")
        if not self.has_begun and self.status and self.length == len(first):
            # Most pages: the answer is one piece, and goes to its shard as one message.
            self.has_begun = True
            self.exchange.respond(self.status, self.headers, first)
            return
        self.write(first)
        for piece in pieces:
            self.write(piece)
        self.exchange.finish()

    def _send_file(self, file: Any) -> bool:
        """Sends a file on disk; False when it is something else."""
        try:
            descriptor, offset = file.fileno(), file.tell()
        except (AttributeError, OSError, ValueError):
            return False
        self.has_begun = True
        self.exchange.begin(self.status, self.headers, self.length)
        self.exchange.write_file(descriptor, offset)
        self.exchange.finish()
        return True


def serve(owner: SocketIO, exchange: Exchange) -> None:
    """Answers one request."""
    environ = exchange.environ()
    complete(environ)
    body = exchange.body()
    if body is None:
        environ["wsgi.input"] = io.BufferedReader(_Input(exchange), _FILE_BLOCK_BYTES)
        environ["wsgi.input_terminated"] = True
    else:
        environ["wsgi.input"] = io.BytesIO(body)
        environ.setdefault("CONTENT_LENGTH", str(len(body)))
    environ["wsgi.file_wrapper"] = FileWrapper
    answer = _Answer(exchange)
    try:
        pieces = owner._pages(environ, answer.start)
        try:
            answer.send(pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
    except ConnectionError:
        # The client has gone while the answer was written.
        log.debug("the client of %s has gone", environ.get("PATH_INFO"))
    except Exception:
        log.exception("a page failed: %s %s", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))
        if not answer.has_begun:
            answer.status = 500
            exchange.respond(500, [("Content-Type", "text/plain; charset=utf-8")], b"Internal Server Error")
    if owner._logs_pages:
        access.info('%s "%s %s" %s', environ.get("REMOTE_ADDR", "-"), environ.get("REQUEST_METHOD"), environ.get("REQUEST_URI"),
                    answer.status)

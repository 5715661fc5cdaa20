"""A web server on loopback whose pages misbehave in known ways."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = Callable[["Request"], None]


@dataclass
class Request:
    handler: BaseHTTPRequestHandler
    earlier: int  # requests for the same path before this one

    @property
    def start(self) -> int:
        """First byte asked for."""
        found = re.match(r"bytes=(\d+)-", self.handler.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.head(status, len(body), **headers)
        self.handler.wfile.write(body)

    def answer_rest(self, body: bytes, kind: str, last: int | None = None) -> None:
        """The body from the first byte asked for, up to ``last`` of what its head promises."""
        start = self.start
        about = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {"Accept_Ranges": "bytes"}
        self.head(206 if start else 200, len(body) - start, Content_Type=kind, **about)
        self.handler.wfile.write(body[start:last])
        self.handler.wfile.flush()

    def head(self, status: int, length: int, **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()


@dataclass
class Web:
    """The running server. ``asked`` holds (path, first byte, time) of every request."""

    pages: dict[str, Page]
    port: int = 0
    asked: list[tuple[str, int, float]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _, _ in self.asked)


@contextmanager
def serve(pages: dict[str, Page]) -> Iterator[Web]:
    """Run a server with these pages; unknown paths are 404."""
    web = Web(pages)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            request = Request(self, web.count(self.path))
            web.asked.append((self.path, request.start, time.monotonic()))
            page = web.pages.get(self.path, lambda request: request.answer(404))
            with suppress(BrokenPipeError, ConnectionResetError):  # a client that has had enough
                page(request)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with listening(Handler) as web.port:
        yield web


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Answer requests on loopback while the block runs; the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def file(body: bytes, kind: str = "video/mp4") -> Page:
    """A file that can be asked for from any byte on."""

    def page(request: Request) -> None:
        if request.start >= len(body) and request.start:
            request.answer(416)
        else:
            request.answer_rest(body, kind)

    return page


def cut_off(body: bytes, after: int, times: int, kind: str = "video/mp4") -> Page:
    """A file whose connection breaks after some bytes, the first few times."""
    whole = file(body, kind)

    def page(request: Request) -> None:
        if request.earlier >= times:
            return whole(request)
        request.answer_rest(body, kind, request.start + after)
        request.handler.connection.shutdown(2)

    return page


def status(code: int, text: str = "", **headers: str) -> Page:
    """An answer without a file."""
    return lambda request: request.answer(code, text.encode(), Content_Type="text/html", **headers)


def slow(body: bytes, seconds: float, kind: str = "video/mp4") -> Page:
    """A file that comes in ten pieces over some seconds."""

    def page(request: Request) -> None:
        request.head(200, len(body), Content_Type=kind)
        size = -(-len(body) // 10)
        for at in range(0, len(body), size):
            request.handler.wfile.write(body[at : at + size])
            request.handler.wfile.flush()
            time.sleep(seconds / 10)

    return page

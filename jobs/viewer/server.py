"""The server: the pages, and what they ask for, over HTTP on 127.0.0.1.

    /                                   the page; /page/FILE its style and modules
    /api/dataset, /api/clips            what the data set is, and its clips as columns
    /api/clip/ID                        one clip: media, columns, words
    /api/clip/ID/column/NAME?of=WHOSE   raw little-endian float32 in C order, shape in X-Shape; NaN stays NaN
    /media/ID/{speaker.mp4,listener.mp4,audio.wav,speaker.wav,listener.wav}   with ranges

Addresses carry ids of clips and fixed names, never a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from jobs.viewer.security import MAX_POST_BYTES, add_headers, guard
from schemas.errors import UserError

PAGE = Path(__file__).resolve().parent / "page"
PAGE_FILES = {path.name: path for path in PAGE.iterdir()}
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}

Routes = Callable[[web.Application], None]


def application(tokens: Mapping[str, str], port: int, *routes: Routes) -> web.Application:
    """The application: guard, pages, and the routes that are added; ``tokens`` says whose each token is."""
    app = web.Application(middlewares=[guard(tokens, port)], client_max_size=MAX_POST_BYTES)
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/", _index)
    app.router.add_get("/page/{file}", _page)
    for add in routes:
        add(app)
    return app


async def _index(request: web.Request) -> web.StreamResponse:
    return page_file("index.html")


async def _page(request: web.Request) -> web.StreamResponse:
    return page_file(request.match_info["file"])


def page_file(name: str) -> web.Response:
    """A file of the front end; only those that stood there when the server started."""
    if name not in PAGE_FILES:
        raise web.HTTPNotFound(text="no such page")
    path = PAGE_FILES[name]
    return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8")


def as_json(content: Any) -> web.Response:
    """An answer in JSON, without numbers that JSON does not have."""
    return web.Response(text=json.dumps(content, allow_nan=False), content_type="application/json")


async def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Work that reads files, beside the loop; a `UserError` becomes an answer."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except UserError as error:
        raise web.HTTPNotFound(text=str(error)) from None


def serve(make: Callable[[Mapping[str, str], int], web.Application], people: Mapping[str, str], port: int) -> None:
    """Print the address of every person (token -> name), then serve until interrupted.

    `UserError` if the port is taken, or none.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: expected 0 to 65535, or none")
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; choose another one, or none") from None
    port = listener.getsockname()[1]
    for token in people:
        print(f"http://127.0.0.1:{port}/?token={token}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(make(people, port), listener))


async def _run(app: web.Application, listener: socket.socket) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    forever: Awaitable[None] = asyncio.Event().wait()  # type: ignore[assignment]
    try:
        await forever
    finally:
        await runner.cleanup()


def new_token() -> str:
    """A secret of 256 bits."""
    return secrets.token_urlsafe(32)

"""Who may ask: the person who started the tool, from a browser on the same machine, and nobody else.

The server listens on 127.0.0.1 alone. That is not safe by itself: every page in the same browser can send requests to
it, and a name that its owner points at 127.0.0.1 can even read the answers (DNS rebinding). So a request needs a Host
of ours and a token, which the first visit turns into a cookie that other sites' requests do not carry; what changes
something also needs our own Origin and JSON. No answer allows scripts or styles from elsewhere, or inline.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # withdrawn is withdrawn: nothing stays in the browser's cache
}
MAX_POST_BYTES = 2**16
NAMES = ("127.0.0.1", "localhost")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PERSON = web.RequestKey("person", str)  # whose token a request carries


def guard(tokens: Mapping[str, str], port: int) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """The middleware that turns others away; ``tokens`` says whose each token is."""
    hosts = {f"{name}:{port}" for name in NAMES}
    cookie = f"viewer-{port}"  # cookies do not tell ports apart, two viewers may run

    def person_of(token: str) -> str | None:
        found = [
            person
            for known, person in tokens.items()
            if hmac.compare_digest(known.encode(), token.encode(errors="replace"))
        ]
        return found[0] if found else None

    def host_of(request: web.Request) -> str:
        """The Host, one of ours; the target is a path, since one with a host of its own would outweigh it."""
        said = request.headers.getall("Host", [])
        if len(said) != 1 or said[0].lower() not in hosts or not request.raw_path.startswith("/"):
            raise web.HTTPForbidden(text="this server answers to 127.0.0.1 alone")
        return said[0].lower()

    def check(request: web.Request) -> None:
        host = host_of(request)
        person = person_of(request.cookies.get(cookie, ""))
        if person is None:
            raise web.HTTPForbidden(text="open the address that the command printed: it carries the token")
        if request.method not in ("GET", "HEAD"):
            if request.headers.get("Origin") != f"http://{host}":
                raise web.HTTPForbidden(text="a request from another site")
            if request.content_type != "application/json":
                raise web.HTTPUnsupportedMediaType(text="expected application/json")
        request[PERSON] = person

    def enter(request: web.Request) -> web.StreamResponse:
        """A first visit: the token leaves the address for a cookie."""
        host_of(request)
        token = request.query["token"]
        if person_of(token) is None:
            raise web.HTTPForbidden(text="not the token of this server: open the address that the command printed")
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(cookie, token, httponly=True, samesite="Strict", path="/")
        return answer

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.method == "GET" and request.path == "/" and "token" in request.query:
                return enter(request)
            check(request)
            return await handler(request)
        except web.HTTPException as answer:
            return web.Response(status=answer.status, text=answer.text, headers=_allowed(answer))

    return middleware


def _allowed(answer: web.HTTPException) -> dict[str, str]:
    return {name: answer.headers[name] for name in ("Allow", "Location") if name in answer.headers}


async def add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    """Signal of the application: every answer, an error's too, carries `HEADERS`."""
    answer.headers.update(HEADERS)
    answer.headers.pop("Server", None)

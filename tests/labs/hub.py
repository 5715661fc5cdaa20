"""A stand-in for the Hugging Face Hub on loopback: makes repositories, lists files, takes commits of small files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.labs.web import listening


@dataclass
class StandInHub:
    """``files`` of the one repository; every commit after ``commits_left`` is refused."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)  # names in each
    commits_left: int = 1000

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and answer to a request; empty ``body`` for GET."""
        if path == "/api/repos/create":
            return 200, {"url": f"{self.endpoint}/datasets/u/n", "id": "1"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/tree/" in path:
            return 200, [_entry(*item) for item in sorted(self.files.items())]
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        if "/commit/" in path:
            return self.commit([json.loads(line) for line in body.splitlines()])
        return 404, {"error": "no such page"}

    def commit(self, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        if not self.commits_left:
            return 403, {"error": "over quota"}
        self.commits_left -= 1
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits.append([line["value"]["path"] for line in lines if line["key"] != "header"])
        commit = "0" * 40
        url = f"{self.endpoint}/datasets/u/n/commit/{commit}"
        return 200, {"success": True, "commitOid": commit, "commitUrl": url}


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """A file as the Hub lists it: films it keeps as large files, by sha256, others as git does."""
    size, told = len(content), {}
    if name.endswith(".mp4"):
        told = {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130}}
    oid = hashlib.sha1(b"pointer" if told else b"blob %d\0" % size + content).hexdigest()
    return {"type": "file", "path": name, "size": size, "oid": oid, **told}


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """Run it."""
    hub = StandInHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that http.server calls
            status, answer = hub.answer(self.path.partition("?")[0], self._body())
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def log_message(self, *arguments: object) -> None:
            pass

    with listening(Handler) as hub.port:
        yield hub

"""A real browser for tests: headless Chromium, driven through its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TROUBLE = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


def find_browser() -> str | None:
    """A Chromium of this machine, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page.

    ``trouble`` collects what the console says, ``requests`` every address that was asked for, ``held`` the requests
    that wait for Fetch.continueRequest.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, os.fdopen(read, "rb")
        self._serial = 0
        self._session = ""
        self._events: list[str] = []
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.held: list[str] = []

    def attach(self) -> None:
        """Open an empty page and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come between are kept."""
        self._serial += 1
        message = {"id": self._serial, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._serial:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, place: Path | str, width: int, height: int) -> None:
        """Load a file or an address at a size of the window and wait until it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._events.clear()
        self.call("Page.navigate", url=place if isinstance(place, str) else place.resolve().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._next()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, as if a person had just clicked; promises are awaited."""
        how = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=expression, **how)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        """Press and release a key as a keyboard would; ``modifiers`` is 8 for Shift."""
        about = {"key": key, "modifiers": modifiers, "text": text or (key if len(key) == 1 else "")}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    def wait_for(self, condition: str, within_s: float = 30.0) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + within_s
        while not self.run(condition):
            if time.monotonic() > end:
                there = self.run("location.href + ': ' + document.body.innerText.slice(0, 2000)")
                raise TimeoutError(f"not within {within_s:g} s: {condition}; {self.trouble}; {there}")
            time.sleep(0.05)

    def shot(self, whole: bool = True) -> bytes:
        """A picture of the page as PNG."""
        data: str = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        return base64.b64decode(data)

    def picture(self, path: Path, whole: bool = True) -> None:
        path.write_bytes(self.shot(whole))

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser ended")
            data += byte
        message: dict[str, Any] = json.loads(data)
        method = message.get("method", "")
        self._events.append(method)
        if method in TROUBLE:
            self.trouble.append(json.dumps(message["params"])[:500])
        if method == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        if method == "Fetch.requestPaused":
            self.held.append(message["params"]["requestId"])
        return message


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """A browser with an empty page and a profile of its own; ends with the block."""
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe --no-first-run"
        )
        command = [
            program,
            *flags.split(),
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
        ]
        wired = ["bash", "-c", f'exec 3<&{to_browser} 4>&{from_browser} "$@"', "bash", *command]  # sh knows no fd 10
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        process = subprocess.Popen(wired, pass_fds=(to_browser, from_browser), start_new_session=True, **quiet)
        os.close(to_browser)
        os.close(from_browser)
        page = Page(from_us, to_us)
        try:
            page.attach()
            yield page
        finally:
            process.kill()
            process.wait()
            os.close(from_us)
            page._read.close()

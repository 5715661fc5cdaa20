"""A token bucket a host, shared by every process that downloads into the same folder, on whatever machine."""

from __future__ import annotations

import fcntl
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RateLimit:
    """At most ``burst`` sources at once and ``per_minute`` in the long run, of each host."""

    folder: Path  # where the buckets lie, a file a host; if it is shared, the limit holds for a whole cluster
    per_minute: float
    burst: int

    def wait(self, url: str) -> float:
        """Wait for a token of the url's host and take it; returns the seconds waited."""
        waited = 0.0
        while (pause_s := self._take(host_of(url))) > 0:
            time.sleep(pause_s)
            waited += pause_s
        return waited

    def _take(self, host: str) -> float:
        """Take a token, or say how many seconds it is until there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{host}.json").open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text, now = file.read(), time.time()  # the wall clock is what machines share
            tokens, then = json.loads(text) if text else (float(self.burst), now)
            tokens = min(self.burst, tokens + max(now - then, 0) * self.per_minute / 60)
            enough = tokens >= 1
            file.seek(0)
            file.truncate()
            file.write(json.dumps([tokens - 1 if enough else tokens, now]))
        return 0.0 if enough else (1 - tokens) * 60 / self.per_minute


def host_of(url: str) -> str:
    """The host of a url as a file name; www.youtube.com, m.youtube.com and youtu.be are one."""
    host = urlsplit(url).hostname or "unknown"
    if host == "youtu.be" or host.endswith(".youtube.com"):
        host = "youtube.com"
    return re.sub(r"[^a-z0-9.-]", "_", host.lower())

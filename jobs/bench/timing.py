"""How long work takes, for all benchmarks, and how long decoding does, beside which it stands."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.clock import Span

Times = dict[str, float]
"""What was measured -> milliseconds: of a frame, unless it says of what."""


def shortest_s(work: Callable[[], object], rounds: int = 1) -> float:
    """Seconds of the shortest of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def decoding_s(film: Path, threads: int = os.cpu_count() or 1, span: Span | None = None) -> float:
    """Seconds that ffmpeg needs to decode the pictures of a film, or of a span of it."""
    from imageio_ffmpeg import get_ffmpeg_exe

    part = ["-ss", f"{float(span.start_s)}", "-t", f"{float(span.end_s - span.start_s)}"] if span else []
    reading = ["-nostdin", "-v", "error", "-threads", str(threads), *part, "-i", str(film)]
    words = [get_ffmpeg_exe(), *reading, "-map", "0:v:0", "-f", "null", "-"]
    return shortest_s(lambda: subprocess.run(words, check=True))

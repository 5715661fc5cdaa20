"""Mining a film beside decoding it once: what looking for clips costs, and the memory that it takes.

The default film is a sixth conversations of the demo at 1280x720, between stretches of one person and of nobody.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

from jobs.bench.results import Section
from jobs.bench.timing import decoding_s
from jobs.demo.film import QUALITY
from jobs.make_demo import FILMS, SPEAKER, make_demo
from jobs.mining.mining import Mining
from pipeline import run
from pipeline.build import BuildOptions
from pipeline.manifest.load import load_films
from pipeline.manifest.write import manifest_text
from pipeline.registry import find_stages
from pipeline.tables import aligned
from schemas.errors import UserError

WORKERS = 2  # the decoder gets as many threads
PICTURE = "scale=-2:720,pad=1280:720:-1:0,fps=30,format=yuv420p,setsar=1"
NOTHING_S = 55  # of one person, and as long of a test picture, for 22 s of conversation
MIB = 2**20
POLL_S = 0.5


def mining_table(video: Path | None, minutes: int) -> Section:
    """Decode a film once, mine it, compare; the times are those of the whole film."""
    if video is not None and not video.is_file():
        raise UserError(f"--video {video}: expected an existing file")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = (video or demo_film(folder, minutes)).resolve()
        source = {"id": "film", "path": str(film), "licence": "none"}
        (folder / FILMS).write_text(manifest_text({"name": "bench"}, [source]))
        decoded_s = decoding_s(film, WORKERS)
        mining = Mining(load_films(folder / FILMS), folder / "mined", find_stages(), BuildOptions())
        with _peak_of_workers() as peak:
            started = time.perf_counter()
            run.connect("local", WORKERS)
            mining.run(mining.survey(), lambda *work: run.run_parts(*work, WORKERS))
            run.disconnect()
            mined_s = time.perf_counter() - started
    found = mining.funnel
    pairs_s = next(step["seconds"] for step in found["steps"] if step["step"] == "two people")
    cells = [f"{found['seconds'] / 60:.1f}", f"{pairs_s / 60:.1f}", str(found["clips"]), f"{decoded_s:.0f}"]
    cells += [f"{mined_s:.0f}", f"{mined_s / decoded_s:.2f}", f"{peak[0] / MIB:.0f}"]
    heads = ["minutes", "with two people", "clips", "decoding, s", "mining, s", "times decoding", "MiB a worker"]
    return Section({"mining the whole film": 1000 * mined_s}, 1000 * decoded_s, film.name, aligned([heads, cells]))


def demo_film(folder: Path, minutes: int) -> Path:
    """Conversations between stretches of nothing, again and again."""
    demo = make_demo(folder / "demo").parent
    taken = {"vcodec": "libx264", "acodec": "aac", **{key: QUALITY[key] for key in ("preset", "crf")}}
    words = [word for key, value in taken.items() for word in (f"-{key}", str(value))]
    sources = [["-i", str(demo / "interview.mkv")], ["-stream_loop", "-1", "-i", str(demo / SPEAKER)]]
    sources += [["-i", str(demo / "call.mp4")]]
    sources += [["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30", "-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono"]]
    parts = []
    for number, source in enumerate(sources):
        parts.append(folder / f"{number}.mp4")
        long = ["-t", str(NOTHING_S)] if number % 2 else []
        _ffmpeg(*source, *long, "-vf", PICTURE, *words, "-ar", "44100", "-ac", "1", str(parts[-1]))
    cycle_s = 22 + 2 * NOTHING_S
    names = [f"file '{part}'\n" for part in parts] * max(round(minutes * 60 / cycle_s), 1)
    (folder / "parts.txt").write_text("".join(names))
    _ffmpeg("-f", "concat", "-safe", "0", "-i", str(folder / "parts.txt"), "-c", "copy", str(folder / "film.mp4"))
    return folder / "film.mp4"


def _ffmpeg(*words: str) -> None:
    subprocess.run([get_ffmpeg_exe(), "-nostdin", "-v", "error", *words], check=True)


@contextmanager
def _peak_of_workers() -> Iterator[list[int]]:
    """The largest memory, in bytes, that any process of Ray's operators has held while the block ran."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            peak[0] = max([peak[0], *_resident()])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _resident() -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"_Operator" in (process / "cmdline").read_bytes():
                held = (process / "status").read_text().partition("VmHWM:")[2].split()[0]
                yield int(held) * 1024
        except (OSError, IndexError):  # it has ended
            continue

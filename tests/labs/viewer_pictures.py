"""Pictures of the viewer for README and documentation: ``python -m tests.labs.viewer_pictures out/demo --out docs``.

Shows the demo (`make demo`) in a headless Chromium and writes ``viewer_<page>.png`` in 256 colours: small, as clear.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.labs.browser import browser, find_browser

WIDTH, HEIGHT = 1280, 860
COLOURS = 256
CLIP, PREDICTED = "interview_000000_000004", "interview_000008_000012"
PAGES = {  # name -> place, and what is there once it is drawn
    "overview": ("overview", "document.querySelector('#page h2, #page table') !== null"),
    "clips": ("clips", "document.querySelector('#page canvas, #page svg') !== null"),
    "clip": (f"clip/{CLIP}?frame=30&over=model&over=axes", "document.querySelector('[data-state=standing]') !== null"),
    "compare": (f"compare/{PREDICTED}?frame=30", "document.querySelector('[data-state=standing]') !== null"),
}
MEASURED = "document.getElementById('state').textContent === ''"
STILL_S = 1.0  # for what is drawn after that


@contextmanager
def viewer(*data: Path | str) -> Iterator[str]:
    """``python -m jobs.view`` for as long as the block runs, with a cache of its own; the address that it prints."""
    command = [sys.executable, "-m", "jobs.view", *map(str, data)]
    with (
        tempfile.TemporaryDirectory() as cache,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"VICO_CACHE": cache}) as process,
    ):
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="the demo's folder")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    program = find_browser()
    assert program, "needs Chromium: apt-get install chromium"
    beside = [options.demo / name for name in ("predicted", "rendered", "scores") if (options.demo / name).is_dir()]
    with viewer(options.demo / "data", *beside) as address, browser(program) as page:
        page.open(address, WIDTH, HEIGHT)
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        for name, (place, drawn) in PAGES.items():
            page.open("about:blank", WIDTH, HEIGHT)
            page.open(f"{address.partition('?')[0]}#/{place}", WIDTH, HEIGHT)
            page.wait_for(f"{drawn} && {MEASURED}")
            time.sleep(STILL_S)
            path = options.out / f"viewer_{name}.png"
            picture = Image.open(BytesIO(page.shot())).convert("RGB")
            picture.quantize(COLOURS, kmeans=1).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

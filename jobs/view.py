"""Look at a data set in the browser: ``python -m jobs.view DATA [PREDICTION ...]``.

The first line printed is the address, which carries a token; nothing is opened, and nobody else can read. Pages:
overview, clips by any measure, one clip with sound, curves and overlays, predictions beside it, rejects. Beside the
data set stand predictions, evaluations and rendered videos of its clips. It works while a build runs.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobs.command import DATASET, command, option
from jobs.viewer.data import Answers, data_routes, reasons
from jobs.viewer.opened import ALL_MEDIA, Opened
from jobs.viewer.scores import FILE as SCORES
from jobs.viewer.scores import ClipScores
from jobs.viewer.server import application, new_token, serve
from jobs.viewer.sources import SourceRoutes
from jobs.viewer.static import export
from jobs.votes.films import open_films
from pipeline.dataset.read import FILE as DESCRIPTION
from pipeline.dataset.read import sample_names
from pipeline.dataset.storage import Location, location
from schemas.errors import UserError


def open_all(dataset: str, beside: Sequence[str]) -> Answers:
    """The data set and what stands beside it, each by its name or that of its folder.

    `UserError` for a folder that holds none of the three kinds.
    """
    predictions: dict[str, Opened] = {}
    scores: list[ClipScores] = []
    videos: dict[str, Location] = {}
    for text in beside:
        name, equals, folder = text.partition("=")
        given = bool(equals) and "/" not in name
        root = location(folder if given else text)
        name = name if given else root.resolve().name
        if (root / SCORES).is_file():
            scores.append(ClipScores.read(root / SCORES))
        elif found := _samples(root):
            predictions |= {f"{name} {sample}".strip(): Opened(root / sample if sample else root) for sample in found}
        elif next(iter(root.glob("*.mp4")), None):
            videos[name] = root
        else:
            raise UserError(
                f"{root}: expected a prediction ({DESCRIPTION}), an evaluation ({SCORES}) or rendered videos "
                "(CLIP_ID.mp4); name what jobs.predict, jobs.evaluate or jobs.render wrote"
            )
    return Answers(Opened(location(dataset)), predictions, scores, videos)


def _samples(root: Location) -> list[str]:
    """The folders of a prediction below ``root``: "" for itself, none where it is no prediction."""
    if (root / DESCRIPTION).is_file():
        return [""]
    return sample_names(root) if hasattr(root, "iterdir") else []  # type: ignore[arg-type]


@command(
    DATASET,
    option(
        "beside",
        nargs="*",
        metavar="[NAME=]PREDICTION",
        help="what jobs.predict wrote of the data set; also what jobs.evaluate or jobs.render wrote",
    ),
    option("--manifest", help="what it was built from: shows rejects in the whole picture of their source"),
    option("--static", type=Path, metavar="FOLDER", help="write the pages there, with all data, and serve nothing"),
    option("--clips", nargs="+", default=[], metavar="ID", help="--static: only these clips"),
    option(
        "--media", nargs="*", choices=ALL_MEDIA, default=ALL_MEDIA, help="--static: which media go along (default: all)"
    ),
    option("--port", type=int, default=0, help="of 127.0.0.1 (default: a free one)"),
)
def main(options: argparse.Namespace) -> None:
    """Look at a data set in the browser."""
    answers = open_all(options.dataset, options.beside)
    if options.static:
        count = export(answers, options.static, options.clips, options.media)
        print(f"{options.static / 'index.html'}: {count} clips")
        return
    films = open_films(options.manifest) if options.manifest else None
    answers.has_films = films is not None
    answers.clips()  # begin to measure, and have ready what the first page asks for
    reasons()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, and leaves no film behind
    with tempfile.TemporaryDirectory(prefix="view-") as scratch:
        sources = [SourceRoutes(answers, films, Path(scratch))] if films else []
        routes = [*sources, data_routes(answers)]
        serve(lambda tokens, port: application(tokens, port, *routes), {new_token(): ""}, options.port)

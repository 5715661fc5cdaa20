"""Judge clips in the browser: ``python -m jobs.annotate MANIFEST.toml --annotator NAME``.

The first line printed is the address, which carries the annotator's token. Every clip of the manifest, or of a built
data set's folder, is shown blind and in an order of one's own; the keyboard alone suffices, and a vote is on the disk
when the page says so. With ``--adjudicate`` the clips on which the votes decide nothing are shown with the votes.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from aiohttp import web

from jobs.command import command, option
from jobs.viewer.server import application, new_token, serve
from jobs.votes.consolidation import FEWEST_VOTES
from jobs.votes.films import open_films
from jobs.votes.routes import Adjudication, VoteRoutes
from jobs.votes.store import VoteFile
from schemas.errors import UserError


def make_app(routes: VoteRoutes, tokens: Mapping[str, str], port: int) -> web.Application:
    """The tool as an application."""
    return application(tokens, port, routes)


@command(
    option("manifest", metavar="MANIFEST", help="what to judge: a manifest, or a built data set's folder"),
    option("--annotator", required=True, metavar="NAME", help="who judges: the name of the file of votes"),
    option("--votes", type=Path, metavar="DIR", help="where the votes lie (default: beside the manifest)"),
    option("--adjudicate", action="store_true", help="decide what the votes leave open, seeing them"),
    option("--names", action="store_true", help="show whose votes they are when adjudicating"),
    option("--fewest", type=int, default=FEWEST_VOTES, help=f"votes that a clip needs (default {FEWEST_VOTES})"),
    option("--port", type=int, default=0, help="of 127.0.0.1 (default: a free one)"),
)
def main(options: argparse.Namespace) -> None:
    """Judge clips, or decide what the votes leave open."""
    if options.fewest < 1:
        raise UserError(f"--fewest {options.fewest}: expected 1 or more")
    films = open_films(options.manifest)
    for clip_id, why in films.absent.items():
        print(f"not shown: {clip_id}: {why}", file=sys.stderr)
    if not films.films:
        raise UserError(f"{options.manifest}: no clip that can be shown")
    folder = (options.votes or films.votes_folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--votes {folder}: expected a folder, found a file; name another one")
    VoteFile(folder, options.annotator).votes()  # told here if the name or the file is wrong
    adjudication = Adjudication(options.fewest, options.names) if options.adjudicate else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, and leaves no film behind
    with tempfile.TemporaryDirectory(prefix="annotate-") as scratch:
        routes = VoteRoutes(films, folder, Path(scratch), adjudication)
        serve(partial(make_app, routes), {new_token(): options.annotator}, options.port)

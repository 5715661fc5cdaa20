"""The whole picture of clips, also of those that were turned down: from the manifest that a data set was built from.

    /api/film/ID             frames of the film, and how many lie before the clip's first
    /media/ID/source.mp4     the film: the sandboxed reader's pictures, encoded anew; nothing foreign is sent

A film is written when it is asked for and goes with the tool.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from jobs.viewer.data import Answers, send_file
from jobs.viewer.server import apart, as_json
from jobs.votes.films import Films, Shown
from jobs.votes.routes import FilmShelf
from pipeline.media.reader import MediaError

NO_FILM = "there is no film of that clip"


class SourceRoutes:
    """The routes over the films of one manifest; ``scratch`` is a folder of this process."""

    def __init__(self, answers: Answers, films: Films, scratch: Path) -> None:
        self.answers, self.films, self.shelf = answers, films, FilmShelf(scratch)

    def __call__(self, app: web.Application) -> None:
        """Stands before the routes of the data, which know no ``source.mp4``."""
        app.router.add_get("/api/film/{id}", self.film)
        app.router.add_get("/media/{id}/source.mp4", self.media)

    async def film(self, request: web.Request) -> web.Response:
        """What the film is."""
        shown = await self._shown(request)
        address = f"/media/{request.match_info['id']}/source.mp4"
        return as_json({"video": address, "frames": shown.frames, "before": shown.before})

    async def media(self, request: web.Request) -> web.StreamResponse:
        """The film itself."""
        return await send_file((await self._shown(request)).video, "source.mp4")

    async def _shown(self, request: web.Request) -> Shown:
        clip_id = request.match_info["id"]
        await apart(self.answers.data.manifest, clip_id)  # withdrawn is withdrawn
        film = self.films.films.get(clip_id)
        if film is None or not self.films.may_show(film):
            raise web.HTTPNotFound(text=self.films.absent.get(clip_id, NO_FILM))
        try:
            return await self.shelf.shown(film)
        except MediaError as error:
            raise web.HTTPNotFound(text=f"{clip_id}: {error}") from None

"""What the pages Annotate and Adjudicate ask the server for. Who votes is the token's owner, never part of a request.

    GET  /api/annotate                what is asked, and how far one's own list is
    GET  /api/annotate/PLACE          a film to be judged, and one's own vote on it
    GET  /media/annotate/PLACE/FILE   film.mp4, sound.wav
    POST /api/annotate/PLACE          {uuid, seen, answer}: answered only when the vote is on the disk
    POST /api/annotate/undo           {uuid}: takes back the last vote

Blind: a place in one's own list stands for a clip, so no answer holds an id, the manifest's labels, what a model says
or what others voted, nor tells that a film comes a second time. Adjudicators see the votes, by default without names.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from jobs.viewer.security import PERSON
from jobs.viewer.server import as_json
from jobs.votes.consolidation import OPEN, Decision, decide_all, without_stale
from jobs.votes.films import Film, Films, Shown, write_film
from jobs.votes.order import order
from jobs.votes.question import ATTITUDE_MEANINGS, CONDITIONS, Answer, NoAnswerError
from jobs.votes.store import ADJUDICATION, FIRST, NewerVoteError, Vote, VoteFile, vote_files
from pipeline.media.reader import MediaError
from pipeline.plan import digest
from schemas.errors import UserError

KEPT_FILMS = 12
FILES = {"film.mp4": "video/mp4", "sound.wav": "audio/wav"}
LONGEST_UUID = 64
OPEN_PLACE, DONE_PLACE, STALE_PLACE = "o", "d", "s"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Adjudication:
    """Instead of one's own opinion: the clips on which the votes decide nothing."""

    fewest: int
    names: bool = False  # whether votes are shown with the names of those who gave them


class FilmShelf:
    """Films as they are shown: written when first asked for, one at a time; the older ones go again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._films: OrderedDict[str, asyncio.Task[Shown]] = OrderedDict()
        self._one = asyncio.Semaphore(1)

    async def shown(self, film: Film) -> Shown:
        """The film's files. Raises what `write_film` raises, then and when asked again."""
        return await asyncio.shield(self.start(film))

    def start(self, film: Film) -> asyncio.Task[Shown]:
        """Have it written if it is not there."""
        task = self._films.get(film.fingerprint)
        if task is None or (task.done() and isinstance(task.exception(), OSError)):
            task = self._films[film.fingerprint] = asyncio.create_task(self._write(film))
            task.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # told to whoever asks for the film
        self._films.move_to_end(film.fingerprint)
        while len(self._films) > KEPT_FILMS and next(iter(self._films.values())).done():
            self._remove(self._films.popitem(last=False)[0])
        return task

    async def _write(self, film: Film) -> Shown:
        async with self._one:
            return await asyncio.to_thread(write_film, film, self._folder)

    def _remove(self, fingerprint: str) -> None:
        for path in self._folder.glob(f"{fingerprint}.*"):
            path.unlink(missing_ok=True)


class VoteRoutes:
    """The routes over one set of films; ``scratch`` is a folder of this process for what is shown."""

    def __init__(self, films: Films, votes: Path, scratch: Path, adjudication: Adjudication | None = None) -> None:
        self.films = films
        self.votes = votes
        self.scratch = scratch
        self.adjudication = adjudication
        self._left = (
            [one.clip_id for one in self._decisions() if one.outcome == OPEN or one.adjudicated] if adjudication else []
        )
        self._lists: dict[str, list[tuple[str, str]]] = {}

    def __call__(self, app: web.Application) -> None:
        """Add the routes to the application."""
        self.shelf = FilmShelf(self.scratch)
        app.router.add_get("/api/dataset", self.dataset)
        app.router.add_get("/api/annotate", _told(self.overview))
        app.router.add_post("/api/annotate/undo", _told(self.undo))
        app.router.add_get("/api/annotate/{place:\\d{1,9}}", _told(self.place))
        app.router.add_post("/api/annotate/{place:\\d{1,9}}", _told(self.vote))
        app.router.add_get("/media/annotate/{place:\\d{1,9}}/{file}", _told(self.media))

    async def dataset(self, request: web.Request) -> web.Response:
        """What the frame around the pages needs, and no more: columns and labels would tell."""
        page = "adjudicate" if self.adjudication else "annotate"
        nothing = {"done": 0, "total": 0}
        return as_json({"name": self.films.name, "pages": [page], "building": False, "index": nothing})

    async def overview(self, request: web.Request) -> web.Response:
        items, standing = self._list(request), await asyncio.to_thread(self._file(request).standing)
        return as_json(
            {
                "conditions": list(CONDITIONS.items()),
                "attitudes": list(ATTITUDE_MEANINGS.items()),
                "annotator": request[PERSON],
                "places": "".join(self._state(item, standing.get(item)) for item in items),  # a letter each
            }
        )

    async def place(self, request: web.Request) -> web.Response:
        number, film = self._film(request)
        items = self._list(request)
        vote = (await asyncio.to_thread(self._file(request).standing)).get(items[number])
        said: dict[str, Any] = {
            "place": number,
            "num_frames": film.num_frames,
            "asks_side": film.asks_side,
            "seen": vote.number if vote else 0,
            "stale": vote is not None and vote.fingerprint != film.fingerprint,
            "vote": vote.answer.to_json() if vote and vote.answer else None,
        }
        if self.adjudication:
            said |= {"clip_id": film.clip_id, **await asyncio.to_thread(self._others, film)}
        try:
            shown = await self.shelf.shown(film)
        except MediaError as error:
            return as_json(said | {"trouble": f"cannot be shown: {error}"})
        self._prepare(items, number + 1)
        sizes = {"frames": shown.frames, "before": shown.before, "after": shown.after}
        return as_json(said | sizes | {"has_sound": shown.sound is not None})

    async def media(self, request: web.Request) -> web.StreamResponse:
        _, film = self._film(request)
        name = request.match_info["file"]
        shown = await self.shelf.shown(film)
        path = {"film.mp4": shown.video, "sound.wav": shown.sound}.get(name)
        if path is None:
            raise web.HTTPNotFound(text="no such file")
        return web.FileResponse(path, headers={"Content-Type": FILES[name]})

    async def vote(self, request: web.Request) -> web.Response:
        number, film = self._film(request)
        item = self._list(request)[number]
        body = await _body(request)
        try:
            answer, seen = Answer.of_json(body["answer"]), body["seen"]
            if not isinstance(seen, int):
                raise NoAnswerError(f"seen: found {seen!r}")
        except (KeyError, TypeError, AttributeError, NoAnswerError) as error:
            raise web.HTTPBadRequest(text=f"not saved: no answer to the question: {error}") from None
        self._check(film, answer, await self.shelf.shown(film))
        file = self._file(request)
        vote = await asyncio.to_thread(file.vote, _uuid(body), *item, film.fingerprint, answer, seen)
        return as_json({"place": number, "seen": vote.number, "state": self._state(item, vote)})

    async def undo(self, request: web.Request) -> web.Response:
        file, items = self._file(request), self._list(request)
        line = await asyncio.to_thread(file.undo, _uuid(await _body(request)), set(items))
        if line is None:
            return as_json({"place": None})
        item = (line.clip_id, line.round)
        left = await asyncio.to_thread(file.standing)
        return as_json({"place": items.index(item), "state": self._state(item, left.get(item))})

    # -- whose, which -----------------------------------------------------------------------------------------------

    def _file(self, request: web.Request) -> VoteFile:
        return VoteFile(self.votes, request[PERSON])

    def _list(self, request: web.Request) -> list[tuple[str, str]]:
        """What this person judges, in their order."""
        person = request[PERSON]
        if person not in self._lists:
            own = [(clip_id, ADJUDICATION) for clip_id in self._left]
            self._lists[person] = own if self.adjudication else order(person, self.films.films)
        return self._lists[person]

    def _film(self, request: web.Request) -> tuple[int, Film]:
        number, items = int(request.match_info["place"]), self._list(request)
        if number >= len(items):
            raise web.HTTPNotFound(text="no such place")
        film = self.films.films[items[number][0]]
        if not self.films.may_show(film):
            raise web.HTTPGone(text="withdrawn: not to be shown any more")
        return number, film

    def _prepare(self, items: list[tuple[str, str]], number: int) -> None:
        """Write the next film while this one is looked at."""
        if number < len(items) and self.films.may_show(self.films.films[items[number][0]]):
            self.shelf.start(self.films.films[items[number][0]])

    def _state(self, item: tuple[str, str], vote: Vote | None) -> str:
        if vote is None:
            return OPEN_PLACE
        return DONE_PLACE if vote.fingerprint == self.films.films[item[0]].fingerprint else STALE_PLACE

    def _check(self, film: Film, answer: Answer, shown: Shown) -> None:
        if not answer.valid:
            return
        assert answer.in_frame is not None and answer.out_frame is not None  # `Answer.of_json` sees to it
        if answer.in_frame < -shown.before or answer.out_frame > film.num_frames + shown.after:
            raise web.HTTPBadRequest(text="not saved: the times lie outside what was shown")
        if (answer.side is not None) != film.asks_side:
            raise web.HTTPBadRequest(text="not saved: say on which side the speaker sits where both are in one picture")

    # -- what adjudicators see --------------------------------------------------------------------------------------

    def _decisions(self) -> list[Decision]:
        assert self.adjudication
        votes = {file.annotator: list(file.standing().values()) for file in vote_files(self.votes)}
        return decide_all(self.films, without_stale(self.films, votes)[0], self.adjudication.fewest)

    def _others(self, film: Film) -> dict[str, Any]:
        """The votes on a clip side by side, in an order that tells nothing of who gave them."""
        assert self.adjudication
        given = {file.annotator: file.standing().get((film.clip_id, FIRST)) for file in vote_files(self.votes)}
        votes = {who: vote for who, vote in given.items() if vote and vote.fingerprint == film.fingerprint}
        shuffled = sorted(votes, key=lambda who: digest([film.clip_id, who]))
        answers = [vote.answer.to_json() for who in shuffled if (vote := votes[who]) and vote.answer]
        return {"votes": answers, "names": shuffled if self.adjudication.names else None}


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="not saved: no JSON") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="not saved: expected an object")
    return body


def _uuid(body: dict[str, Any]) -> str:
    uuid = body.get("uuid")
    if not isinstance(uuid, str) or not 0 < len(uuid) <= LONGEST_UUID:
        raise web.HTTPBadRequest(text="not saved: a vote has an id of its own")
    return uuid


def _told(handler: Handler) -> Handler:
    """The handler; what a person can mend becomes an answer that says so."""

    async def telling(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except NewerVoteError:
            raise web.HTTPConflict(text="not saved: you voted on this in another tab meanwhile") from None
        except MediaError as error:
            raise web.HTTPNotFound(text=f"cannot be shown: {error}") from None
        except UserError as error:
            raise web.HTTPConflict(text=str(error)) from None
        except OSError as error:
            raise web.HTTPInsufficientStorage(text=f"not saved: {error.strerror or error}") from None

    return telling

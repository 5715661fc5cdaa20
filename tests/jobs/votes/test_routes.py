"""The server that takes votes: blind, whose vote it is, what is refused, and what happens in two tabs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar, web
from aiohttp.test_utils import TestServer, unused_port

from jobs.annotate import make_app
from jobs.votes.films import open_films
from jobs.votes.order import order
from jobs.votes.routes import Adjudication, VoteRoutes
from jobs.votes.store import FIRST, REPEAT, VoteFile
from pipeline.media.encode import count_frames, read_video, read_wav
from tests.labs import votes as planted
from tests.labs.media import read_number
from tests.labs.votes import CLIPS, FRAMES, NEG, POS, no

TestServer.__test__ = False  # type: ignore[attr-defined]  # a server for tests, no test
Answers = dict[str, tuple[int, bytes]]


class Person:
    """An annotator's browser, without the browser."""

    def __init__(self, session: ClientSession, address: str) -> None:
        self.session, self.address = session, address

    async def get(self, path: str) -> tuple[int, bytes]:
        async with self.session.get(self.address + path) as answer:
            return answer.status, await answer.read()

    async def json(self, path: str) -> Any:
        async with self.session.get(self.address + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, str]:
        headers = {"Origin": self.address, **headers}
        async with self.session.post(self.address + path, json=body, headers=headers) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def served(manifest: Path, scratch: Path, adjudication: Adjudication | None = None):  # type: ignore[no-untyped-def]
    """Ada and Bea, each at a browser of their own."""
    films, port = open_films(str(manifest)), unused_port()
    scratch.mkdir(exist_ok=True)
    app: web.Application = make_app(
        VoteRoutes(films, films.votes_folder, scratch, adjudication), {"secret-a": "ada", "secret-b": "bea"}, port
    )
    server = TestServer(app, port=port)
    async with (
        server,
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as a,
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as b,
    ):
        people = []
        for session, token in ((a, "secret-a"), (b, "secret-b")):
            people.append(Person(session, f"http://127.0.0.1:{port}"))
            assert (await people[-1].get(f"/?token={token}"))[0] == 200
        yield people


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(test())  # type: ignore[arg-type]


def body(answer: Any, seen: int = 0, uuid: str = "u1") -> dict[str, Any]:
    return {"uuid": uuid, "seen": seen, "answer": answer.to_json()}


@pytest.fixture(scope="module")
def films_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.make_films(tmp_path_factory.mktemp("films")).parent


@pytest.fixture
def manifest(films_folder: Path, tmp_path: Path) -> Path:
    """The twelve clips, in a folder that no other test writes to."""
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).hardlink_to(films_folder / name)
    return planted.make_films(tmp_path)


async def everything(manifest: Path, scratch: Path) -> Answers:
    """All answers that ada gets."""
    async with served(manifest, scratch) as (ada, _):
        paths = ["/", "/api/dataset", "/api/annotate"]
        for place in (0, 1, 12):
            paths += [
                f"/api/annotate/{place}",
                f"/media/annotate/{place}/film.mp4",
                f"/media/annotate/{place}/sound.wav",
            ]
        return {path: await ada.get(path) for path in paths}


def test_no_answer_tells_labels_people_ids_or_what_others_voted(manifest: Path, tmp_path: Path) -> None:
    """The same clips with other labels, and with everybody's votes there, give the same answers byte for byte."""
    bare = run(lambda: everything(manifest, tmp_path / "1"))
    assert all(status == 200 for status, _ in bare.values())
    planted.make_films(tmp_path, "negative", "right", "dora,emil")
    films = open_films(str(manifest))
    for who in ("bea", "cyd"):
        for clip_id in CLIPS:
            VoteFile(films.votes_folder, who).vote(clip_id, clip_id, FIRST, films.films[clip_id].fingerprint, POS)
    assert run(lambda: everything(manifest, tmp_path / "2")) == bare
    text = b"".join(content for path, (_, content) in bare.items() if path.startswith("/api"))
    assert not re.search(rb"repeat|first|a_0000|b_0000|\bp\b|\bq\b", text)


def test_a_film_that_comes_again_looks_like_any_other(manifest: Path, tmp_path: Path) -> None:
    items = order("ada", CLIPS)
    again = next(place for place, (_, round) in enumerate(items) if round == REPEAT)
    before = items.index((items[again][0], FIRST))

    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            assert (await ada.post(f"/api/annotate/{before}", body(POS)))[0] == 200
            first, second = [await ada.json(f"/api/annotate/{place}") for place in (before, again)]
            assert first["vote"]["attitude"] == "positive" and second["vote"] is None
            assert set(first) == set(second)
            assert (await ada.json("/api/annotate"))["places"][again] == "o"

    run(test)


def test_the_film_is_the_whole_picture_with_two_seconds_of_margin_frame_by_frame(
    manifest: Path, tmp_path: Path
) -> None:
    place = order("ada", CLIPS).index((CLIPS[2], FIRST))  # from second 5 on

    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            said = await ada.json(f"/api/annotate/{place}")
            assert (said["before"], said["num_frames"], said["after"]) == (60, FRAMES, 60)
            (tmp_path / "film.mp4").write_bytes((await ada.get(f"/media/annotate/{place}/film.mp4"))[1])
            (tmp_path / "sound.wav").write_bytes((await ada.get(f"/media/annotate/{place}/sound.wav"))[1])
            partial = await ada.session.get(
                f"{ada.address}/media/annotate/{place}/film.mp4", headers={"Range": "bytes=10-19"}
            )
            assert partial.status == 206 and len(await partial.read()) == 10

    run(test)
    frames = list(read_video(tmp_path / "film.mp4"))
    assert len(frames) == count_frames(tmp_path / "film.mp4") == FRAMES + 120
    wanted = [round((3 + frame / 30) * 25 - 1e-6) for frame in range(len(frames))]  # the source has 25 a second
    assert [read_number(frame) for frame in frames] == wanted
    assert len(read_wav(tmp_path / "sound.wav")[0]) == 1470 * len(frames)


def test_who_votes_is_the_tokens_owner_whatever_the_request_says(manifest: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, bea):
            lie = {**body(POS), "annotator": "bea", "person": "bea"}
            assert (await ada.post("/api/annotate/0", lie))[0] == 200
            assert (await bea.post("/api/annotate/1", body(NEG)))[0] == 200

    run(test)
    folder = open_films(str(manifest)).votes_folder
    assert [vote.clip_id for vote in VoteFile(folder, "ada").votes()] == [order("ada", CLIPS)[0][0]]
    assert [vote.clip_id for vote in VoteFile(folder, "bea").votes()] == [order("bea", CLIPS)[1][0]]


def test_nothing_is_saved_that_another_site_sends_or_that_is_no_answer(manifest: Path, tmp_path: Path) -> None:
    good = body(POS)
    wrong: list[Any] = [[], {}, {**good, "uuid": ""}, {**good, "uuid": "x" * 99}, {**good, "seen": "0"}]
    for change in (
        {"attitude": "bored"},
        {"attitude": None},
        {"side": None},
        {"in_frame": -61},
        {"out_frame": FRAMES + 61},
        {"in_frame": 9, "out_frame": 9},
        {"in_frame": 1.5},
        {"in_frame": True},
        {"valid": False},
        {"failed": ["faces"]},
        {"failed": ["../x"], "valid": False},
        {"valid": "yes"},
        {"note": "x" * 1001},
        {"seconds": -1},
    ):
        wrong.append({**good, "answer": {**good["answer"], **change}})

    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            place = order("ada", CLIPS).index((CLIPS[2], FIRST))
            for content in wrong:
                status, text = await ada.post(f"/api/annotate/{place}", content)
                assert status == 400 and text.startswith("not saved"), (content, text)
            for origin in ("https://elsewhere.example", "null", f"{ada.address}0"):
                assert (await ada.post(f"/api/annotate/{place}", good, Origin=origin))[0] == 403
            assert (await ada.post(f"/api/annotate/{place}", good, **{"Content-Type": "text/plain"}))[0] == 415
            assert (await ada.post("/api/annotate/99", good))[0] == 404
            async with ada.session.post(f"{ada.address}/api/annotate/{place}", json=good) as answer:
                assert answer.status == 403  # no Origin at all

    run(test)
    assert not open_films(str(manifest)).votes_folder.exists()


def test_in_two_tabs_the_second_vote_is_told_of_the_first_and_may_replace_it(manifest: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            assert (await ada.post("/api/annotate/0", body(POS, 0, "tab-1")))[0] == 200
            status, text = await ada.post("/api/annotate/0", body(NEG, 0, "tab-2"))
            assert status == 409 and "another tab" in text
            assert (await ada.post("/api/annotate/0", body(POS, 0, "tab-1")))[0] == 200  # sent again: the same vote
            seen = (await ada.json("/api/annotate/0"))["seen"]
            assert (await ada.post("/api/annotate/0", body(NEG, seen, "tab-2b")))[0] == 200
            assert (await ada.json("/api/annotate/0"))["vote"]["attitude"] == "negative"
            assert (await ada.post("/api/annotate/undo", {"uuid": "z"}))[0] == 200
            assert (await ada.json("/api/annotate/0"))["vote"]["attitude"] == "positive"

    run(test)
    assert len(VoteFile(open_films(str(manifest)).votes_folder, "ada").votes()) == 3


def test_a_clip_that_is_withdrawn_while_the_tool_runs_is_shown_no_more(manifest: Path, tmp_path: Path) -> None:
    items = order("ada", CLIPS)

    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            assert (await ada.get("/media/annotate/0/film.mp4"))[0] == 200
            text = manifest.read_text()
            manifest.write_text(text.replace('clips = "', f'takedown = ["{items[0][0]}"]\nclips = "'))
            for path in ("/api/annotate/0", "/media/annotate/0/film.mp4", "/media/annotate/0/sound.wav"):
                assert (await ada.get(path))[0] == 410
            assert (await ada.post("/api/annotate/0", body(POS)))[0] == 410
            assert (await ada.get("/api/annotate/1"))[0] == 200

    run(test)


def test_a_film_that_changes_makes_the_vote_on_it_stale(manifest: Path, tmp_path: Path) -> None:
    async def test(state: str) -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            if state == "d":
                assert (await ada.post("/api/annotate/0", body(no("faces"))))[0] == 200
            assert (await ada.json("/api/annotate"))["places"][0] == state
            said = await ada.json("/api/annotate/0")
            assert said["stale"] == (state == "s") and said["vote"]["failed"] == ["faces"]

    run(lambda: test("d"))
    clips = manifest.with_name("clips.csv")
    clip_id = order("ada", CLIPS)[0][0]
    start = int(clip_id[2:8])
    clips.write_text(
        clips.read_text().replace(f"{clip_id[0]},{start},{start + 1.5}", f"{clip_id[0]},{start},{start + 1.4}")
    )
    run(lambda: test("s"))


def test_a_film_that_cannot_be_read_says_why_and_the_others_are_shown(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "a.mp4").write_bytes(b"no film")
    items = order("ada", CLIPS)
    broken, whole = (next(p for p, (c, _) in enumerate(items) if c[0] == source) for source in ("a", "b"))

    async def test() -> None:
        async with served(manifest, tmp_path / "s") as (ada, _):
            assert "unreadable" in (await ada.json(f"/api/annotate/{broken}"))["trouble"]
            assert (await ada.get(f"/media/annotate/{broken}/film.mp4"))[0] == 404
            assert (await ada.post(f"/api/annotate/{broken}", body(POS)))[0] == 404
            assert "trouble" not in await ada.json(f"/api/annotate/{whole}")

    run(test)


def test_adjudicators_see_the_votes_on_what_is_open_and_no_names_unless_asked_for(
    manifest: Path, tmp_path: Path
) -> None:
    planted.cast(open_films(str(manifest)))

    async def test(adjudication: Adjudication) -> list[Any]:
        async with served(manifest, tmp_path / "s", adjudication) as (ada, _):
            assert (await ada.json("/api/dataset"))["pages"] == ["adjudicate"]
            assert (await ada.json("/api/annotate"))["places"] == "oo"
            return [await ada.json(f"/api/annotate/{place}") for place in (0, 1)]

    said = run(lambda: test(Adjudication(3)))
    assert [one["clip_id"] for one in said] == list(planted.OPEN) and [one["names"] for one in said] == [None, None]
    assert sorted(vote["attitude"] for vote in said[0]["votes"]) == ["negative", "neutral", "positive"]
    assert "bea" not in str(said) and "cyd" not in str(said)
    named = run(lambda: test(Adjudication(3, names=True)))
    assert sorted(named[0]["names"]) == ["ada", "bea", "cyd"]
    assert dict(zip(named[0]["names"], [v["attitude"] for v in named[0]["votes"]], strict=True))["bea"] == "neutral"

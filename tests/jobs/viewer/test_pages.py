"""The pages in a real browser: what 100,000 clips cost, what filters show, hostile names, an export from a disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jobs import view
from jobs.viewer.data import Answers, data_routes
from jobs.viewer.opened import Opened
from jobs.viewer.static import export
from tests.labs.browser import Page, browser, find_browser
from tests.labs.viewing import HOSTILE, serving, spoken_set, strange_set, write_many

COUNT = "document.querySelector('.count').textContent"
ROWS = "document.querySelectorAll('.table-row').length"
MANY = 100_000
BYTES_A_CLIP = 130  # ids, split, people, times in JSON, and five measures of four bytes
PAGES = ("#/overview", "#/clips", "#/clips?sort=listener_angle.jump", "#/rejects")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with browser(program) as opened:
        yield opened


def open_answers(root: Path) -> Answers:
    answers = Answers(Opened(root))
    answers.refresh()
    answers.index.wait()
    return answers


@pytest.mark.slow
def test_a_hundred_thousand_clips_cost_three_requests_and_filters_none(page: Page, tmp_path: Path) -> None:
    write_many(tmp_path, MANY)
    answers = open_answers(tmp_path)
    with serving(data_routes(answers)) as served:
        page.open(f"{served.entry}#/clips", 1280, 800)
        page.wait_for(f"{ROWS} > 0")
        asked = [(path, size) for path, size in served.answered if path.startswith("/api")]
        assert Counter(path for path, _ in asked) == {"/api/dataset": 1, "/api/clips": 1, "/api/measures": 1}
        assert sum(size for _, size in asked) < BYTES_A_CLIP * MANY
        assert page.run(COUNT).startswith("100,000 clips")
        assert page.run(ROWS) < 80  # of the document; the others are made when they are scrolled to

        clips = json.loads(answers.clips())
        (jump,) = answers.measures(["listener_angle.jump"], clips["version"])
        negative = np.array(clips["attitude"]) == "negative"
        before = len(served.answered)
        page.run(
            "[...document.querySelectorAll('button.cell-head')].find((one) => /angle/.test(one.textContent)).click()"
        )
        worst = clips["ids"][int(np.nanargmax(jump))]
        assert page.run("document.querySelector('.table-row .id').textContent") == worst
        page.run(
            "[...document.querySelectorAll('.facet label')].find((one) => /negative/.test(one.textContent)).click()"
        )
        assert page.run(COUNT).startswith(f"{negative.sum():,} of 100,000 clips")
        low = float(np.nanquantile(jump, 0.99))
        page.run(f"""(() => {{
            const boxes = [...document.querySelectorAll('.histogram-box')];
            const box = boxes.find((one) => /angle · jump/.test(one.textContent));
            const [field] = box.querySelectorAll('input');
            field.value = '{low!r}';
            field.dispatchEvent(new Event('change'));
        }})()""")
        kept = int((negative & (jump >= low)).sum())
        assert page.run(COUNT).startswith(f"{kept} of 100,000 clips") and kept > 50
        print("a filter:", page.run("document.querySelector('[data-filter-ms]').dataset.filterMs"), "ms")
        assert len(served.answered) == before

        address = page.run("location.href")
        assert "attitude=negative" in address and "in=listener_angle.jump" in address
        page.open("about:blank", 1280, 800)
        page.open(address, 1280, 800)
        page.wait_for(f"{ROWS} > 0")
        assert page.run(COUNT).startswith(f"{kept} of 100,000 clips")  # the view is in the address
        assert (
            page.run("document.querySelector('.table-row .id').textContent")
            == clips["ids"][int(np.nanargmax(np.where(negative, jump, np.nan)))]
        )
        assert not page.trouble


TICKED = """[...document.querySelectorAll('.table-row')].filter((one) => one.firstChild.checked)
    .map((one) => one.querySelector('.id').textContent).join()"""


def test_ticks_stay_while_a_clip_is_looked_at_and_stand_at_the_same_ids_when_one_is_withdrawn(
    page: Page, tmp_path: Path
) -> None:
    write_many(tmp_path, 40, shards=2)
    with serving(data_routes(open_answers(tmp_path))) as served:
        page.open("about:blank", 1280, 800)
        page.open(f"{served.entry}#/clips?split=train", 1280, 800)
        page.wait_for(f"{ROWS} > 0")
        page.run("[1, 3, 5].forEach((k) => document.querySelectorAll('.table-row input')[k].click())")
        first, *others = page.run(TICKED).split(",")
        assert len(others) == 2
        page.run(f"location.hash = '#/clip/{first}'")
        page.wait_for(f"document.querySelector('h1')?.textContent === '{first}'")
        page.run("document.querySelector('#nav a[data-page=clips]').click()")
        page.wait_for(f"{ROWS} > 0")
        assert page.run("location.hash") == "#/clips?split=train"  # the view that was left
        assert page.run(TICKED).split(",") == [first, *others]
        (tmp_path / "takedown.txt").write_text(f"{first}\n")
        news = "fetch('/api/dataset').then((answer) => answer.json())"
        page.run(f"{news}.then((detail) => void document.dispatchEvent(new CustomEvent('dataset', {{ detail }})))")
        page.wait_for(f"{TICKED} === '{','.join(others)}'")
        page.run("[...document.querySelectorAll('button')].find((one) => one.textContent === 'takedown.txt').click()")
        assert page.run("document.querySelector('dialog pre').textContent").split() == others
        page.run("location.hash = '#/rejects?clip=fallen_000001'")
        page.wait_for("document.querySelector('.detail h2')?.textContent.startsWith('fallen_000001')")
        assert page.run("document.querySelector('dialog')") is None  # what was open is not in the way
        page.wait_for("document.querySelector('.detail').textContent.includes('--manifest')")


def test_names_of_others_become_text_and_no_page_runs_over(page: Page, tmp_path: Path) -> None:
    strange_set(tmp_path)
    page.trouble.clear()
    with serving(data_routes(open_answers(tmp_path))) as served:
        for width, height in ((1280, 800), (390, 844)):
            for place in (*PAGES, "#/clips?sort=gaze_votes.jump", "#/clip/c001", "#/clip/nobody", "#/clips?split=<u>"):
                page.open("about:blank", width, height)
                page.open(f"{served.entry}{place}", width, height)
                page.wait_for("!/^…?$/.test(document.querySelector('#page').textContent)")
                assert page.run("document.querySelectorAll('img, #page script, #page u').length") == 0, place
                assert page.run("document.documentElement.scrollWidth <= innerWidth"), (place, width)
        assert page.run("document.querySelector('#name').textContent") == HOSTILE
    assert [line for line in page.trouble if "404" not in line] == []


NOTE_SOURCES = """
const kept = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'src');
const set = function (to) { window.playing = files[to]; kept.set.call(this, to); };
Object.defineProperty(HTMLMediaElement.prototype, 'src', { ...kept, set });
const files = {}, made = URL.createObjectURL;
URL.createObjectURL = (blob) => { const url = made(blob); files[url] = blob; return url; };
"""  # keeps the bytes that the page gives its media element


def test_a_clip_is_heard_as_one_chooses_and_shows_each_persons_wave_and_words(page: Page, tmp_path: Path) -> None:
    page.trouble.clear()
    noting = page.call("Page.addScriptToEvaluateOnNewDocument", source=NOTE_SOURCES)
    with serving(data_routes(open_answers(spoken_set(tmp_path)))) as served:
        page.open("about:blank", 1280, 800)
        page.open(f"{served.entry}#/clip/a_000000_000001", 1280, 800)
        page.wait_for("document.querySelectorAll('[data-kind=wave]').length === 3")
        words = "[...document.querySelectorAll('[data-kind=words] .word')].map((one) => one.textContent)"
        assert page.run(words) == ["both", "speaker_", "listener_"]
        heard = "document.querySelector('select[name=heard]')"
        assert page.run(f"[...{heard}.options].map((one) => one.textContent)") == ["both", "speaker", "listener"]
        for whose, level in (("listener_audio", 0.75), ("sound", 0.25), ("speaker_audio", 0.5)):
            page.run(f"{heard}.value = '{whose}'; {heard}.dispatchEvent(new Event('change'))")
            first = "new DataView(bytes).getInt16(1044, true) / 32768"
            assert page.run(f"playing.arrayBuffer().then((bytes) => {first})") == pytest.approx(level, abs=1e-3), whose
        asked = {path.rpartition("/")[2] for path, _ in served.answered if path.startswith("/media/")}
        assert asked == {"audio.wav", "speaker.wav", "listener.wav"}
    page.call("Page.removeScriptToEvaluateOnNewDocument", **noting)
    assert not page.trouble


def test_an_export_shows_its_clips_from_the_disk_and_asks_nobody(page: Page, tmp_path: Path) -> None:
    write_many(tmp_path / "data", 40, shards=2)
    (tmp_path / "data" / "media" / "s0000_000003").mkdir(parents=True)
    (tmp_path / "data" / "media" / "s0000_000003" / "audio.wav").write_bytes(b"RIFF")
    chosen = ["s0000_000003", "s0000_000030"]
    words = [str(tmp_path / "data"), "--static", str(tmp_path / "out"), "--clips", *chosen, "--media", "audio.wav"]
    assert view.main(words) == 0
    page.trouble.clear()
    page.requests.clear()
    page.open(tmp_path / "out" / "index.html", 1280, 800)
    page.run("location.hash = '#/clips'")
    page.wait_for(f"{ROWS} == 2")
    assert page.run("[...document.querySelectorAll('.table-row .id')].map((one) => one.textContent)") == chosen
    page.run("location.hash = '#/clip/s0000_000003'")
    page.wait_for("/listener_angle/.test(document.querySelector('#page').textContent.replace(/ /g, '_'))")
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data", "blob"}
    assert (tmp_path / "out" / "media" / "s0000_000003" / "audio.wav").read_bytes() == b"RIFF"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.js"))
    assert b"s0000_000004" not in everything and b"fallen_" not in everything


def test_an_export_overwrites_itself_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_many(tmp_path / "data", 20, shards=2)
    assert export(Answers(Opened(tmp_path / "data")), tmp_path / "out") == 20
    assert export(Answers(Opened(tmp_path / "data")), tmp_path / "out", ["s0000_000001"]) == 1
    assert view.main([str(tmp_path / "data"), "--static", str(tmp_path / "data")]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert view.main([str(tmp_path / "data"), "--static", str(tmp_path / "new"), "--clips", "nobody"]) == 2

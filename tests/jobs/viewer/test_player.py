"""The page of a clip in a real browser: every frame that it names is the frame that is on the screen.

The films' frames carry their numbers, so that what a browser draws is read from its pixels, not from what it says.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from jobs.viewer.data import Answers, data_routes
from jobs.viewer.opened import Opened
from pipeline.media.encode import VideoWriter
from tests.labs import web
from tests.labs.browser import Page, browser, find_browser
from tests.labs.numbered_clip import COLOURS, EXACT, FRAMES, SHIFTED, SIDE_PX, TURNED_RAD, build_numbered_clips
from tests.labs.viewing import serving

PAGE_FILES = Path(__file__).resolve().parents[3] / "jobs" / "viewer" / "page"
LOADED = "document.querySelector('.transport')?.dataset.state === 'standing'"
PLAYING_SAMPLES = 60
MOST_ROUNDS = 10  # times that the clip is played for them: a busy machine makes many samples useless

# What is on the screen: the number in the cells, and the colour below them (red speaker, blue listener).
READ = """
window.reading = Object.assign(document.createElement('canvas'), {width: SIDE, height: SIDE})
    .getContext('2d', {willReadFrequently: true});
window.read = (video) => {
    reading.drawImage(video, 0, 0, SIDE, SIDE);
    const row = reading.getImageData(0, SIDE / 4, SIDE, 1).data;
    const below = reading.getImageData(SIDE / 2, SIDE * .75, 1, 1);
    let number = 0;
    for (let bit = 0; bit < 16; bit += 1) if (row[4 * Math.floor((bit + .5) * SIDE / 16)] > 128) number |= 1 << bit;
    return [number, below.data[0] > below.data[2] ? 'speaker' : 'listener'];
};
window.film = (role) => document.querySelector(`video[data-role=${role}]`);
window.drawn = (canvas) =>
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
window.push = (label) => [...document.querySelectorAll('button')].find((one) => one.textContent === label).click();
window.bar = () => document.querySelector('.transport');
window.said = () => Number(document.querySelector('.frame').dataset.frame);
""".replace("SIDE", str(SIDE_PX))

# All that the page says of the time, and what is there: {page, playhead, curve, media, speaker, listener}
STATE = """(() => ({
    page: said(),
    playhead: document.querySelector('.tracks').style.getPropertyValue('--at') * FRAMES - .5,
    drawn: (() => { const plot = document.querySelector('.plot').getBoundingClientRect(),
        line = document.querySelector('.playhead').getBoundingClientRect();
        return (line.left - plot.left) / plot.width * FRAMES - .5; })(),
    curve: Number(document.querySelector('[data-track=number] .values').textContent),
    odd: document.querySelector('[data-track=odd] .values').textContent,
    media: document.querySelector('[data-media]').textContent,
    speaker: read(film('speaker')), listener: read(film('listener')),
}))()""".replace("FRAMES", str(FRAMES))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build_numbered_clips(tmp_path_factory.mktemp("numbered"))


@pytest.fixture(scope="module")
def address(built: tuple[Path, Path]) -> Iterator[str]:
    data, guess = (Opened(root) for root in built)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICO_CACHE", str(built[0].parent / "cache"))
        with serving(data_routes(Answers(data, {"guess": guess}))) as served:
            yield served.entry


@pytest.fixture(scope="module")
def opened(address: str) -> Iterator[Page]:
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with browser(program) as page:
        page.open(address, 1000, 900)  # the token becomes a cookie
        page.call("Page.addScriptToEvaluateOnNewDocument", source=READ)
        yield page


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    yield opened
    assert not opened.trouble
    opened.open("about:blank", 1000, 900)


TRACKS = "?track=number&track=odd&track=wide"


def visit(page: Page, address: str, place: str, width: int = 1000, loaded: str = LOADED) -> None:
    """Open a page of the viewer anew."""
    page.open("about:blank", width, 900)
    page.open(f"{address.partition('?')[0]}#/{place}", width, 900)
    page.wait_for(loaded)


def show(page: Page, address: str, clip_id: str, query: str = "", loaded: str = LOADED) -> None:
    """Open the page of a clip with the tracks whose values are known."""
    visit(page, address, f"clip/{clip_id}{TRACKS}{query}", loaded=loaded)
    page.wait_for("document.querySelectorAll('.track').length === 3")


def wrong(state: dict[str, Any], frame: int) -> list[str]:
    """What a state of the page says or shows that is not this frame."""
    expected: dict[str, Any] = {"page": frame, "curve": frame, "odd": "yes" if frame % 2 else "no"}
    expected |= {role: [frame, role] for role in COLOURS}
    expected["media"] = f"speaker {frame}listener {frame}sound {frame}"
    found = [f"{key}: {state[key]}, not {value}" for key, value in expected.items() if state[key] != value]
    found += [f"{key}: {state[key]}" for key in ("playhead", "drawn") if abs(state[key] - frame) > 0.3]
    return found


def go_to(page: Page, frame: int) -> list[str]:
    """Follow a link to a frame; what is wrong there."""
    page.run(f"location.hash = location.hash.replace(/&frame=.*|$/, '&frame={frame}')")
    page.wait_for(f"said() === {frame} && {LOADED}")
    return wrong(page.run(STATE), frame)


def frames_to_visit() -> list[int]:
    return [0, 1, 29, 30, 31, FRAMES - 1, *random.Random(17).sample(range(FRAMES), 12)]


def test_a_link_to_a_frame_shows_that_frame_in_both_faces_the_playhead_and_the_curves(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=77")
    assert wrong(page.run(STATE), 77) == []
    assert {frame: go_to(page, frame) for frame in frames_to_visit()} == dict.fromkeys(frames_to_visit(), [])


def test_a_link_that_is_followed_as_the_address_is_brought_up_to_date_is_not_lost(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=77")
    followed = """(async () => {
        const later = window.setTimeout, links = [];
        window.setTimeout = (act, ms) => (ms === 150 ? links.push(act) : later(act, ms));
        location.hash = location.hash.replace(/&frame=.*|$/, '&frame=50');
        while (said() !== 50 || !links.length) await new Promise((resolve) => later(resolve, 5));
        location.hash = location.hash.replace(/&frame=.*|$/, '&frame=60');
        links.at(-1)(); // before the page hears of the link
        window.setTimeout = later;
        for (let tries = 0; said() !== 60 && tries < 300; tries += 1) await new Promise((done) => later(done, 10));
        return said();
    })()"""
    assert page.run(followed) == 60


SLOW_FILMS = """{
const {get, set} = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'currentTime');
const late = function (seconds) { setTimeout(() => set.call(this, seconds), 500); };
Object.defineProperty(HTMLMediaElement.prototype, 'currentTime', {get, set: late});
const {replaceState} = history;
window.named = [];
history.replaceState = function (...place) { named.push(place[2]); replaceState.apply(history, place); };
}"""


def test_a_link_stays_in_the_address_while_its_frame_is_being_sought(page: Page, address: str) -> None:
    script = page.call("Page.addScriptToEvaluateOnNewDocument", source=SLOW_FILMS)
    show(page, address, EXACT, "&frame=77")
    page.call("Page.removeScriptToEvaluateOnNewDocument", **script)
    page.wait_for("named.length > 0")
    assert page.run("named.filter((one) => !one.endsWith('&frame=77'))") == []


def test_the_same_check_notices_a_film_that_is_a_frame_late(page: Page, address: str) -> None:
    show(page, address, SHIFTED)
    for frame in (1, 29, 30, 31, FRAMES - 1):
        assert go_to(page, frame) == [f"listener: [{frame - 1}, 'listener'], not [{frame}, 'listener']"]


def test_arrows_step_a_frame_and_with_shift_a_second_however_fast_they_come(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=40")
    at = 40
    for key, modifiers, by, times in (
        ("ArrowRight", 0, 1, 7),
        ("ArrowRight", 8, 30, 2),
        ("ArrowLeft", 0, -1, 4),
        ("ArrowLeft", 8, -30, 9),  # stops at the start
        ("ArrowRight", 0, 1, 1),
    ):
        for _ in range(times):
            page.press(key, modifiers=modifiers)
        at = max(0, min(FRAMES - 1, at + by * times))
        page.wait_for(f"said() === {at} && {LOADED}")
        assert wrong(page.run(STATE), at) == []
    page.wait_for("location.hash.endsWith('&frame=1')")


# While it plays: what the browser says it presented beside what its pixels show, and both faces beside each other. A
# sample counts if nothing kept the page from it: a frame's time after it was presented, a film has gone on meanwhile.
PLAY = """
new Promise((done) => {
    const FRAME_MS = 1000 / 30, presented = [], together = [];
    const watch = (video) => video.requestVideoFrameCallback((_, frame) => {
        const [number] = read(video);
        if (performance.now() - frame.presentationTime < FRAME_MS)
            presented.push([number, Math.round(frame.mediaTime * 30), said()]);
        if (bar().dataset.state === 'playing') watch(video);
    });
    const look = () => {
        const start = performance.now();
        const before = read(film('speaker'))[0], other = read(film('listener'))[0], after = read(film('speaker'))[0];
        if (before === after && performance.now() - start < FRAME_MS)
            together.push([before, other, bar().dataset.correcting === 'true']);
        if (bar().dataset.state === 'playing') requestAnimationFrame(look);
        else done({presented, together});
    };
    const begin = () => {
        if (bar().dataset.state !== 'playing') return requestAnimationFrame(begin);
        watch(film('speaker')); watch(film('listener')); look();
    };
    begin();
    bar().querySelector('button').click();
})
"""


def play(page: Page) -> dict[str, list[list[Any]]]:
    """Samples of plays from the start to the end, until there are enough outside corrections."""
    found: dict[str, list[list[Any]]] = {"presented": [], "together": []}
    for _ in range(MOST_ROUNDS):
        for key, samples in page.run(PLAY).items():
            found[key] += samples
        page.wait_for(LOADED)
        if min(len(found["presented"]), sum(not sample[2] for sample in found["together"])) >= PLAYING_SAMPLES:
            return found
    raise AssertionError(f"{MOST_ROUNDS} plays gave {[len(samples) for samples in found.values()]} samples")


def apart(samples: list[list[Any]]) -> list[list[Any]]:
    """Samples outside corrections in which the faces are more than one frame apart."""
    return [sample for sample in samples if not sample[2] and abs(sample[0] - sample[1]) > 1]


def test_while_it_plays_pixels_and_presented_frame_agree_and_the_faces_are_at_most_one_apart(
    page: Page, address: str
) -> None:
    show(page, address, EXACT)
    found = play(page)
    assert {number - presented for number, presented, _ in found["presented"]} <= {0, 1}
    assert apart(found["together"]) == []
    assert all(playhead <= presented for _, presented, playhead in found["presented"])  # it is the least of both faces
    assert len({playhead for _, _, playhead in found["presented"]}) > PLAYING_SAMPLES // 4
    assert wrong(page.run(STATE), FRAMES - 1) == []  # and it ends on the last frame


def test_while_it_plays_the_same_check_notices_a_film_that_is_a_frame_late(page: Page, address: str) -> None:
    show(page, address, SHIFTED, f"&frame={FRAMES // 2}")
    presented = page.run(PLAY)["presented"]
    assert -1 in {number - said for number, said, _ in presented}


def test_a_pause_shows_the_frame_that_the_playhead_names(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=20")
    page.press(" ")
    page.wait_for("said() > 35")
    page.press(" ")
    page.wait_for(LOADED)
    assert 35 < (frame := page.run("said()")) < FRAMES - 1
    assert wrong(page.run(STATE), frame) == []


def test_play_ends_at_the_out_point_and_a_loop_begins_again_at_the_in_point(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=50")
    page.press("i")
    go_to(page, 62)
    page.press("o")
    page.press(" ")
    page.wait_for("bar().dataset.state === 'playing'")
    assert page.run("said()") < 62
    page.wait_for(LOADED)
    assert wrong(page.run(STATE), 62) == []
    assert page.run("location.hash.includes('in=50&out=62')")
    page.press("l")
    page.press(" ")
    page.run("""new Promise((done) => {
        let last = 0, returns = 0;
        const look = () => {
            if (said() < last) returns += 1;
            last = said();
            if (returns === 2) done();
            else requestAnimationFrame(look);
        };
        look();
    })""")
    assert page.run("said()") >= 50
    page.press(" ")
    page.wait_for(LOADED)


def test_a_browser_without_the_callback_steps_exactly_and_says_that_it_reckons(page: Page, address: str) -> None:
    source = "delete HTMLVideoElement.prototype.requestVideoFrameCallback"
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"]
    show(page, address, EXACT)
    page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added)
    for frame in (1, 29, 30, 31, FRAMES - 1, 0):
        page.run(f"location.hash = location.hash.replace(/&frame=.*|$/, '&frame={frame}')")
        page.wait_for(f"said() === {frame} && {LOADED}")
        state = page.run(STATE)
        assert state.pop("media") == f"speaker ~{frame}listener ~{frame}sound ~{frame}"
        assert wrong(state | {"media": f"speaker {frame}listener {frame}sound {frame}"}, frame) == []
    page.press(" ")
    page.wait_for("said() > 10")
    page.press(" ")
    page.wait_for(LOADED)


def test_a_film_that_does_not_come_keeps_all_from_playing(page: Page, address: str) -> None:
    page.call("Fetch.enable", patterns=[{"urlPattern": "*/listener.mp4*"}])
    stalled = "document.querySelector('.message')?.textContent.includes('speaker 100 %')"
    show(page, address, EXACT, loaded=stalled)
    page.press(" ")
    assert page.run("[film('speaker').paused, film('listener').paused, bar().dataset.state]") == [True, True, "loading"]
    while page.held:
        page.call("Fetch.continueRequest", requestId=page.held.pop())
    page.wait_for(LOADED)
    page.call("Fetch.disable")
    assert wrong(page.run(STATE), 0) == []


def test_without_any_film_or_sound_a_clock_moves_the_playhead(page: Page, address: str) -> None:
    visit(page, address, "overview", loaded="document.querySelector('#page *') !== null")
    steps = """(async () => {
        const {Player} = await import('/page/player.js'), seen = [];
        const player = new Player({}, null, 40);
        await player.open(5);
        seen.push(player.frame);
        await player.step(1);
        seen.push(player.frame);
        await player.play();
        while (player.playing) await new Promise(requestAnimationFrame);
        await player.seek(player.frame);
        return [...seen, player.frame, player.state];
    })()"""
    assert page.run(steps) == [5, 6, 39, "standing"]


SECOND_FILM = """
    const {Player} = await import('/page/player.js'), {src} = film('speaker');
    const video = document.body.appendChild(Object.assign(document.createElement('video'), {src}));
    const open = () => new Player({film: video}, null, FRAMES);
    const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
""".replace("FRAMES", str(FRAMES))


def test_a_frame_that_the_browser_draws_and_does_not_tell_of_is_sought_once_more(page: Page, address: str) -> None:
    """Chromium tells of no frame that it draws between another's drawing and the telling of that one."""
    show(page, address, EXACT)
    untold = """(async () => {SETUP
        const ask = video.requestVideoFrameCallback.bind(video);
        let lost = 0;
        video.requestVideoFrameCallback = (hear) => ask((now, frame) => {
            if (frame.mediaTime > 0 && !lost++) video.requestVideoFrameCallback(hear);
            else hear(now, frame);
        });
        const player = open();
        await player.open(20);
        const seen = [player.frame, read(video)[0], lost > 0];
        player.close();
        video.remove();
        return seen;
    })()""".replace("SETUP", SECOND_FILM)
    assert page.run(untold) == [20, 20, True]


def test_a_player_that_was_closed_while_it_sought_leaves_the_film_to_the_next_one(page: Page, address: str) -> None:
    show(page, address, EXACT)
    both = """(async () => {SETUP
        const first = open();
        await first.open(0);
        first.seek(10);
        first.seek(25);
        first.close();
        video.src = src;
        const second = open();
        await second.open(5);
        await later(1500); // longer than a film waits to be drawn
        const seen = [second.frame, read(video)[0], first.frame];
        second.close();
        video.remove();
        return seen;
    })()""".replace("SETUP", SECOND_FILM)
    assert page.run(both) == [5, 5, 0]


def test_columns_of_a_stage_that_nobody_has_seen_are_lines_bands_and_strips(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=3")
    kinds = "Object.fromEntries([...document.querySelectorAll('.track')].map((t) => [t.dataset.track, t.dataset.kind]))"
    assert page.run(kinds) == {"number": "lines", "odd": "bands", "wide": "heat"}
    page.run("document.querySelector('.picker').open = true")
    page.run("document.querySelector('.picker input[value=pair]').click()")
    page.wait_for("document.querySelectorAll('.track').length === 4")
    values = "[...document.querySelectorAll('[data-track=pair] .values b')].map((cell) => cell.textContent)"
    assert page.run(values) == ["–", "–"]  # not known in that frame
    page.press("ArrowRight")
    page.wait_for(f"said() === 4 && {LOADED}")
    assert [float(value) for value in page.run(values)] == [2, -4]
    page.wait_for("location.hash.includes('track=pair') && location.hash.includes('frame=4')")
    visit(page, address, page.run("location.hash.slice(2)"))  # the link shows the same
    page.wait_for("document.querySelectorAll('.track').length === 4")
    assert page.run("said()") == 4
    assert page.run("[...document.querySelectorAll('.plot canvas')].every(drawn)")


def test_a_click_or_drag_on_a_track_shows_the_frame_there(page: Page, address: str) -> None:
    show(page, address, EXACT)
    box = page.run("(({x, y, width}) => [x, y, width])(document.querySelector('.plot').getBoundingClientRect())")

    def mouse(kind: str, frame: int, buttons: int) -> None:
        place = {"x": box[0] + box[2] * (frame + 0.5) / FRAMES, "y": box[1] + 5}
        page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=buttons, clickCount=1, **place)

    mouse("mousePressed", 60, 1)
    page.wait_for(f"said() === 60 && {LOADED}")
    for frame in range(60, 121, 5):
        mouse("mouseMoved", frame, 1)
    mouse("mouseReleased", 120, 0)
    mouse("mouseMoved", 10, 0)
    page.wait_for(f"said() === 120 && {LOADED}")
    assert wrong(page.run(STATE), 120) == []


def test_no_key_acts_inside_a_text_field_and_a_question_mark_lists_them(page: Page, address: str) -> None:
    show(page, address, EXACT, "&frame=9")
    page.run("document.querySelector('.clip').append(window.field = document.createElement('input')); field.focus()")
    for key in (" ", "i", "l", "?"):
        page.press(key)
    assert page.run("[field.value, bar().dataset.state]") == [" il?", "standing"]
    assert page.run("document.querySelector('dialog[open]') === null")
    page.run("field.blur()")
    page.press("?")
    assert page.run("document.querySelector('dialog[open]').textContent.includes('a second on')")


def test_n_and_p_lead_to_the_next_clip_and_back(page: Page, address: str) -> None:
    show(page, address, EXACT)
    for key, clip_id in (("n", SHIFTED), ("p", EXACT)):
        page.press(key)
        page.wait_for(f"document.querySelector('h1')?.textContent === '{clip_id}' && {LOADED}")


def test_leaving_lets_go_of_the_films(page: Page, address: str) -> None:
    counts = """window.held = new Set();
    const make = URL.createObjectURL, drop = URL.revokeObjectURL;
    URL.createObjectURL = (blob) => { const url = make.call(URL, blob); held.add(url); return url; };
    URL.revokeObjectURL = (url) => { held.delete(url); drop.call(URL, url); };"""
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=counts)["identifier"]
    show(page, address, EXACT)
    page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added)
    assert page.run("held.size") == 3
    page.run("window.left = film('speaker'); location.hash = '#/overview'")
    page.wait_for("!document.querySelector('.transport')")
    assert page.run("[held.size, left.getAttribute('src')]") == [0, None]


@pytest.mark.parametrize("place", ["clip", "compare"])
def test_a_narrow_screen_shows_all_without_scrolling_sideways(place: str, page: Page, address: str) -> None:
    visit(page, address, f"{place}/{EXACT}", 390)
    page.run("document.querySelector('.picker').open = true")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("[...document.querySelectorAll('.face')].every((one) => one.getBoundingClientRect().width > 100)")


def test_a_comparison_draws_heads_where_there_is_no_film_and_curves_of_what_differs(page: Page, address: str) -> None:
    visit(page, address, f"compare/{EXACT}?frame=31")
    assert page.run("read(film('truth'))[0]") == 31
    page.wait_for("document.querySelectorAll('[data-track]').length > 1")
    values = "[...document.querySelectorAll('[data-track=\"{}\"] .values b')].map((cell) => Number(cell.textContent))"
    assert page.run(values.format("difference of listener_angle")) == [TURNED_RAD]
    assert page.run(values.format("listener_angle 0")) == [0, TURNED_RAD]
    assert page.run("[...document.querySelectorAll('.compared .over')].map(drawn)") == [False, False, True]  # two films
    page.press("ArrowRight")
    page.wait_for(f"said() === 32 && {LOADED}")
    assert page.run("read(film('truth'))[0]") == 32


def test_a_blind_comparison_tells_nothing_until_the_choice_is_made(page: Page, address: str) -> None:
    visit(page, address, f"compare/{EXACT}")
    first = set()
    for _ in range(20):
        page.run("push('Compare blindly')")
        page.wait_for(LOADED)
        shown = page.run("document.body.outerHTML")
        assert "guess" not in shown and "truth" not in shown
        page.run("push('A')")
        told = page.run("document.querySelector('.blind').textContent")
        first.add("truth" if "A is truth" in told else "guess")
        assert ("You chose A: truth" in told) == ("A is truth, B is guess" in told)
        page.run("push('Show with names')")
        page.wait_for(LOADED)
        if len(first) == 2:
            break
    assert first == {"truth", "guess"}  # one order in 20 has a chance of 2e-6


HARNESS = b"""<!doctype html><link rel="icon" href="data:,">
<video id="speaker" src="/speaker.mp4"></video><video id="listener" src="/listener.mp4"></video>
<audio id="sound" src="/audio.wav"></audio>
<script type="module">
import { Player } from "/player.js";
const at = (id) => document.getElementById(id);
window.player = new Player({ speaker: at("speaker"), listener: at("listener") }, at("sound"), FRAMES);
window.media = () => ["speaker", "listener", "sound"].map((id) => at(id).paused);
player.open(0);
</script>""".replace(b"FRAMES", str(FRAMES).encode())


def stalled(body: bytes, after: int, go_on: Event) -> web.Page:
    """A film that comes up to a byte, and on only once it may."""

    def answer(request: web.Request) -> None:
        if request.start < after:
            request.answer_rest(body, "video/mp4", after)
            go_on.wait(60)
            request.handler.wfile.write(body[after:])
        else:
            go_on.wait(60)
            request.answer_rest(body, "video/mp4")

    return answer


def noise(path: Path) -> bytes:
    """A film as long as the others and so large that a browser cannot have it all at once."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, SIDE_PX, SIDE_PX, 3), np.uint8)
    with VideoWriter(path, (SIDE_PX, SIDE_PX), preset="ultrafast") as writer:
        for frame in range(FRAMES):
            writer.write(pictures[frame % len(pictures)])
    return path.read_bytes()


def test_an_answer_that_stalls_while_playing_pauses_all_until_it_goes_on(
    page: Page, built: tuple[Path, Path], tmp_path: Path
) -> None:
    media, go_on = built[0] / "media" / EXACT, Event()
    film = noise(tmp_path / "listener.mp4")
    pages = {
        "/": web.status(200, HARNESS.decode()),
        "/player.js": web.file((PAGE_FILES / "player.js").read_bytes(), "text/javascript"),
        "/speaker.mp4": web.file((media / "speaker.mp4").read_bytes()),
        "/listener.mp4": stalled(film, len(film) // 2, go_on),
        "/audio.wav": web.file((media / "audio.wav").read_bytes(), "audio/wav"),
    }
    with web.serve(pages) as served:
        page.open(served.url("/"), 500, 500)
        page.wait_for("window.player?.state === 'standing'")
        page.run("player.setSpeed(2)")
        page.run("player.play().then(() => 0)")
        page.wait_for("player.state === 'waiting'")
        assert page.run("media()") == [True, True, True]
        at = page.run("player.frame")
        assert 0 < at < FRAMES - 1
        go_on.set()
        page.wait_for("player.state === 'standing'")
        assert page.run("player.frame") == FRAMES - 1
        page.open("about:blank", 500, 500)

"""Three annotators at a real browser, by the keyboard alone: what follows from their votes is what was planted.

On the way the disk fills up, the server is killed in mid-vote, another tab votes, and a vote is taken back.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs import consolidate
from jobs.votes.films import open_films
from jobs.votes.order import order
from jobs.votes.question import CONDITIONS, Answer
from jobs.votes.store import VoteFile
from schemas.clip import ATTITUDES
from tests.labs import votes as planted
from tests.labs.browser import Page, browser, find_browser
from tests.labs.votes import CLIPS, FRAMES, NEG, POS

ROOT = Path(__file__).resolve().parents[3]
SHIFT = 8
WIDTHS = {"ada": (1280, 800), "bea": (390, 844), "cyd": (1280, 800)}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium")
    with browser(program) as page:
        yield page


@contextmanager
def tool(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`jobs.annotate` as a person starts it, and the address that it prints."""
    command = [sys.executable, "-m", "jobs.annotate", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def says(page: Page) -> str:
    return str(page.run("document.querySelector('.message').textContent"))


def wait_for_film(page: Page, place: int, frame: int = 0) -> None:
    page.wait_for(
        f"document.querySelector('.progress')?.textContent.startsWith('Film {place + 1} ')"
        f" && document.querySelector('.clock').dataset.frame === '{frame}' && document.querySelector('.wait').hidden"
    )


def step(page: Page, frame: int, to: int) -> None:
    """By arrow keys, a second each with Shift."""
    while frame != to:
        far = abs(to - frame) >= 30
        page.press("ArrowRight" if to > frame else "ArrowLeft", modifiers=SHIFT if far else 0)
        frame += (30 if far else 1) * (1 if to > frame else -1)


def say(page: Page, answer: Answer) -> None:
    """Press the keys of an answer, on a film that stands at the clip's first frame."""
    if not answer.valid:
        page.press("x")
        for name in answer.failed:
            page.press(str(list(CONDITIONS).index(name) + 1))
        return
    page.press("a")
    assert answer.in_frame is not None and answer.out_frame is not None and answer.attitude
    for _ in range(1 if answer.side == "left" else 2):
        page.press("s")
    page.press(str(ATTITUDES.index(answer.attitude) + 1))
    if answer.in_frame != 0:
        step(page, 0, answer.in_frame)
        page.press("i")
    if answer.out_frame != FRAMES:
        step(page, answer.in_frame, answer.out_frame - 1)
        page.press("o")


def save(page: Page, place: int) -> None:
    page.press("Enter")
    page.wait_for(f"document.querySelector('.message').textContent.startsWith('Saved: film {place + 1}.')")


@pytest.mark.slow
def test_three_annotators_at_a_browser_give_the_planted_table_alpha_kappa_and_list(page: Page, tmp_path: Path) -> None:
    manifest = planted.make_films(tmp_path)
    films = open_films(str(manifest))
    for annotator in planted.ANNOTATORS:
        file, items = VoteFile(films.votes_folder, annotator), order(annotator, CLIPS)
        answers = [planted.answer_of(annotator, *item) for item in items]
        words = (str(manifest), "--annotator", annotator)
        with tool(*words) as (process, address):
            page.open(address, *WIDTHS[annotator])
            for place, answer in enumerate(answers[:6]):
                wait_for_film(page, place)
                say(page, answer)
                if annotator == "ada" and place == 2:
                    notes_take_no_keys(page)
                if annotator == "ada" and place == 3:
                    full_disk(page, process, file)
                if annotator == "ada" and place == 4:
                    another_tab(page, file, films.films[items[place][0]].fingerprint, items[place])
                save(page, place)
                if annotator == "ada" and place == 5:
                    undo(page, answer, place)
            wait_for_film(page, 6)
            say(page, answers[6])
            page.press("Enter")
            process.kill()  # in mid-vote
            process.wait()
        assert {(vote.clip_id, vote.round) for vote in file.standing().values()} >= {*items[:6]}
        with tool(*words) as (_, address):
            page.open(address, *WIDTHS[annotator])
            for place in range(len(file.standing()), len(items)):
                wait_for_film(page, place)
                say(page, answers[place])
                save(page, place)
            assert "All are judged" in says(page)
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert {item: vote.answer and vote.answer.valid for item, vote in file.standing().items()} == {
            item: answer.valid for item, answer in zip(items, answers, strict=True)
        }
    told = ("net::ERR_", "status of 409", "status of 507")  # the killed server, the other tab, the full disk
    assert not [line for line in page.trouble if not any(expected in line for expected in told)]
    assert consolidate.main([str(manifest), "--out", str(tmp_path / "labels")]) == 0
    planted.check_outcome(tmp_path / "labels")
    adjudicate(page, manifest, tmp_path / "labels")


def notes_take_no_keys(page: Page) -> None:
    """In the text field x, u, 3 and Space are letters."""
    before = page.run("document.querySelector('.questions').innerText")
    page.press("t")
    for letter in "xu 3":
        page.press(letter)
    page.press("Escape")
    assert page.run("document.querySelector('input[type=text]').value") == "xu 3"
    assert page.run("document.querySelector('.questions').innerText") == before


def full_disk(page: Page, process: subprocess.Popen[str], file: VoteFile) -> None:
    """A limit on the size of the server's files stands for the disk."""
    before = file.path.read_bytes()
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (len(before) + 40, hard))
    page.press("Enter")
    page.wait_for("document.querySelector('.message').textContent.startsWith('not saved')")
    assert file.path.read_bytes() == before
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def another_tab(page: Page, file: VoteFile, fingerprint: str, item: tuple[str, str]) -> None:
    file.vote("other-tab", *item, fingerprint, NEG if item[0] == CLIPS[0] else POS)
    page.press("Enter")
    page.wait_for("document.querySelector('.message').textContent.includes('another tab')")


def undo(page: Page, answer: Answer, place: int) -> None:
    wait_for_film(page, place + 1)
    page.press("u")
    page.wait_for("document.querySelector('.message').textContent.startsWith('Taken back')")
    wait_for_film(page, place)
    page.press(" ")
    page.wait_for("Number(document.querySelector('.clock').dataset.frame) > 3")
    page.press(" ")
    page.press("p")
    wait_for_film(page, place - 1, planted.answer_of("ada", *order("ada", CLIPS)[place - 1]).in_frame or 0)
    page.press("n")
    wait_for_film(page, place)
    say(page, answer)
    save(page, place)


def adjudicate(page: Page, manifest: Path, out: Path) -> None:
    """Who adjudicates sees three votes without names, decides by keyboard, and the clip enters the table."""
    with tool(str(manifest), "--annotator", "judge", "--adjudicate") as (_, address):
        page.open(address, 1280, 800)
        for place, clip_id in enumerate(planted.OPEN):
            wait_for_film(page, place)
            text = page.run("document.querySelector('.votes').innerText + document.querySelector('.beside').innerText")
            assert clip_id in text and not any(name in text for name in planted.ANNOTATORS)
            say(page, planted.NEU)
            save(page, place)
    assert consolidate.main([str(manifest), "--out", str(out)]) == 0
    assert planted.rows_of(out / "adjudicate.csv") == []
    labels = {row["clip_id"]: row["attitude"] for row in planted.rows_of(out / "clips.csv")}
    assert [labels[clip_id] for clip_id in planted.OPEN] == ["neutral", "neutral"] and len(labels) == 10

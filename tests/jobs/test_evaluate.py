"""``jobs.evaluate`` from the command line to the page in a real browser, on generated shards and videos."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from pipeline import run
from pipeline.media.encode import VideoWriter
from pipeline.weights import CACHE_VARIABLE, find_weights
from schemas.errors import UserError
from schemas.score import CLIP_SCORE_SCHEMA
from stages.evaluate import evaluation
from stages.evaluate.comparison import Measurement
from stages.evaluate.evaluation import Request, in_this_process
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.runs import open_run
from stages.evaluate.scoring import score_all
from tests.labs.browser import Page, browser, find_browser
from tests.labs.media import numbered_frame
from tests.labs.predictions import LabClip, moving_clip, write_data_set, write_prediction

pytestmark = pytest.mark.usefixtures("ray_local")  # before the module, whose end looks for what was left
ROOT = Path(__file__).resolve().parents[2]
SIDE_PX = 96
HOSTILE = "<img src onerror>|`*"  # no =, which ends the name in NAME=PREDICTION
METRICS = (
    *("fd_*", "expl1_2023", "posel1_2023", "*fd_frechet_pooled", "vd_exp_sum"),
    *("psnr_piq", "ssim_piq", "cpbd", "csim_arcface"),
)
VOID = {"meta", "img", "br", "input", "link"}


def write_film(path: Path, num_frames: int, first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, (SIDE_PX, SIDE_PX)) as writer:
        for number in range(num_frames):
            writer.write(numbered_frame(first + number, (SIDE_PX, SIDE_PX)))


def filmed(clip: LabClip, root: Path) -> LabClip:
    """The clip with videos of both people."""
    names = {}
    for role in ("listener", "speaker"):
        names[f"{role}_video"] = f"media/{clip.clip_id}/{role}.mp4"
        write_film(root / names[f"{role}_video"], clip.num_frames)
    return replace(clip, values={**clip.values, **names})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference with videos, two predictions, and rendered videos of each: one as the reference, one later."""
    root = tmp_path_factory.mktemp("world")
    attitudes = ("positive", "negative", None)
    clips = [moving_clip(f"clip_{i}", 24 + 2 * i, seed=i, attitude=a) for i, a in enumerate(attitudes)]
    clips.append(moving_clip("clip_3", 26, seed=3, split="ood"))
    clips = [filmed(clip, root / "reference") for clip in clips]
    write_data_set(root / "reference", clips, name=HOSTILE)
    write_prediction(root / "near", clips, lambda name, values: values + 0.01)
    write_prediction(root / "far", clips, lambda name, values: values + 0.2)
    for clip in clips:
        write_film(root / "near_videos" / f"{clip.clip_id}.mp4", clip.num_frames)
        write_film(root / "far_videos" / f"{clip.clip_id}.mp4", clip.num_frames, first=7)
    return root


def evaluated(world: Path, out: Path, *options: object) -> int:
    """The command's exit status."""
    fixed = ["--reference", world / "reference", "--out", out, "--address", "none"]
    return evaluate.main([str(argument) for argument in [*fixed, *options]])


def both(world: Path) -> list[str]:
    """Predictions of both runs, one of which bears a hostile name."""
    return ["--predicted", f"near={world / 'near'}", f"{HOSTILE}={world / 'far'}"]


@pytest.fixture(scope="module")
def written(world: Path) -> Path:
    """The folder of an evaluation of both runs, where no weights are."""
    videos = ["--videos", world / "near_videos", world / "far_videos"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(world / "cache"))
        assert evaluated(world, world / "out", *both(world), *videos, "--metrics", *METRICS) == 0
    return world / "out"


class Structure(HTMLParser):
    """Elements that are left open, all tags, and the values of attributes by name."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.values: dict[str, list[str | None]] = defaultdict(list)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.values[name].append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def structure(page: Path) -> Structure:
    found = Structure()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def scores_of(folder: Path) -> dict[tuple[str, str, str, str], float]:
    content = json.loads((folder / "scores.json").read_text())
    return {(s["run"], s["metric"], s["split"], s["attitude"]): s["value"] for s in content["scores"]}


def test_both_runs_are_scored_on_coefficients_and_pictures(written: Path) -> None:
    scores = scores_of(written)
    assert scores["near", "fd_exp_eccv2022", "test", "all"] == pytest.approx(1, rel=1e-4)
    assert scores[HOSTILE, "fd_exp_eccv2022", "ood", "all"] == pytest.approx(20, rel=1e-4)
    assert scores["near", "psnr_piq", "test", "all"] == pytest.approx(80, abs=1e-6)
    assert scores[HOSTILE, "psnr_piq", "test", "all"] < 40
    assert ("near", "fd_exp_eccv2022", "test", "positive") in scores


def test_the_table_of_clips_has_a_row_a_clip_and_metric(written: Path) -> None:
    table = pq.read_table(written / "scores.parquet")
    assert table.schema.equals(CLIP_SCORE_SCHEMA)
    rows = [row for row in table.to_pylist() if row["metric"] == "ssim_piq"]
    assert len(rows) == 2 * 4
    assert {row["num_frames"] for row in rows} == {24, 26, 28}


def test_what_was_not_computed_stands_everywhere(written: Path) -> None:
    for name in ("scores.json", "leaderboard.md", "leaderboard.html"):
        text = (written / name).read_text(encoding="utf-8").replace("\\", "")
        assert "arcface_r100_ms1mv3" in text and "missing, get them with" in text
    reasons = {one["run"]: one["reason"] for one in json.loads((written / "scores.json").read_text())["not_computed"]}
    assert reasons.keys() == {"near", HOSTILE}
    assert all(why.startswith("weights `arcface_r100_ms1mv3` missing, get them with: ") for why in reasons.values())


def test_the_page_is_whole_and_its_links_lead_somewhere(written: Path) -> None:
    page = structure(written / "leaderboard.html")
    assert not page.open
    ids, links, sources = (page.values[name] for name in ("id", "href", "src"))
    assert len(ids) == len(set(ids))
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert len(sources) == 4 * 4  # reference, speaker and two runs of four clips
    assert all((written / source).is_file() for source in sources)


def test_names_of_others_stay_text(written: Path) -> None:
    assert "img" not in structure(written / "leaderboard.html").tags
    markdown = (written / "leaderboard.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", markdown)
    rows = [line for line in markdown.splitlines() if line.startswith("| `fd_exp_eccv")]
    widths = {line.count("|") - line.count("\\|") for line in rows}
    assert len(widths) <= 2  # of the scores and of the differences: no name adds a column


def test_the_same_evaluation_again_writes_the_same(world: Path, written: Path, tmp_path: Path) -> None:
    assert evaluated(world, tmp_path, *both(world), "--metrics", "fd_*", "vd_exp_sum") == 0
    first = scores_of(written)
    assert all(first[key] == value for key, value in scores_of(tmp_path).items())


def test_the_first_frame_of_films_and_coefficients_is_left_out_where_asked(world: Path, tmp_path: Path) -> None:
    """The film differs from the reference in its first frame alone."""
    (tmp_path / "films").mkdir()
    for i, frames in enumerate((24, 26, 28, 26)):
        with VideoWriter(tmp_path / "films" / f"clip_{i}.mp4", (SIDE_PX, SIDE_PX)) as writer:
            for number in range(frames):
                writer.write(numbered_frame(number if number else 99, (SIDE_PX, SIDE_PX)))
    found = {}
    for choice in ("count", "leave-out"):
        options = ["--videos", tmp_path / "films", "--metrics", "psnr_piq", "fd_exp_eccv2022", "--first-frame", choice]
        assert evaluated(world, tmp_path / choice, "--predicted", f"films={world / 'near'}", *options) == 0
        rows = pq.read_table(tmp_path / choice / "scores.parquet").to_pylist()
        assert {row["num_frames"] for row in rows} == {n - (choice == "leave-out") for n in (24, 26, 28)}
        found[choice] = scores_of(tmp_path / choice)["films", "psnr_piq", "test", "all"]
    assert found["leave-out"] > found["count"] + 1
    text = {choice: (tmp_path / choice / "leaderboard.md").read_text() for choice in found}
    assert "first frame of every clip is left out" in text["leave-out"] and "left out" not in text["count"]


def test_videos_alone_are_a_run_and_their_lengths_are_checked(world: Path, tmp_path: Path, capsys) -> None:
    metrics = ["--metrics", "psnr_piq"]
    assert evaluated(world, tmp_path, *metrics, "--videos", world / "near_videos") == 0
    assert scores_of(tmp_path)["near_videos", "psnr_piq", "test", "all"] == pytest.approx(80, abs=1e-6)
    for i, frames in enumerate((20, 26, 28, 26)):
        write_film(tmp_path / "short" / f"clip_{i}.mp4", frames)
    assert evaluated(world, tmp_path, *metrics, "--videos", tmp_path / "short") == 2
    assert "clip_0: reference 24 frames, predicted video 20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predicted", "nowhere"], "no such folder"),
        ([], "expected runs of different names, found none"),
        (["--predicted", "a=near", "a=far"], "expected runs of different names, found a, a"),
        (["--predicted", "near", "far", "--videos", "near_videos"], "expected a --videos for each of 2 --predicted"),
        (["--predicted", "near", "--metrics", "fd_toe"], "no such metric; known: fd_angle_eccv2022"),
        (["--predicted", "near", "--split", "val"], "no clip in val"),
    ],
)
def test_what_does_not_fit_is_said_and_ends_with_2(
    arguments: list[str], message: str, world: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(world)
    assert evaluated(world, tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "metric", "status", "message"),
    [
        ("inception_2015_12_05", "fid_exact", 0, "expected sha256 6726825d"),  # not computed, and the rest is
        ("facenet_vggface2", "csim_vggface2", 2, "expected a checkpoint of torch, found"),  # nobody publishes its hash
    ],
)
def test_weights_that_cannot_be_read_are_named(
    name: str, metric: str, status: int, message: str, world: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    weights = find_weights(name)
    (file,) = weights.files
    weights.root().mkdir(parents=True)
    (weights.root() / file).write_bytes(b"garbage")
    options = ["--videos", f"near={world / 'near_videos'}", "--metrics", metric, "ssim_piq"]
    assert evaluated(world, tmp_path / "out", *options) == status
    said = capsys.readouterr()
    assert f"{weights.root() / file}: {message}" in (said.err if status else said.out)


WITH_A_GPU = """
import json, sys, ray
from pipeline.run import spread
def seen(number):
    return ray.get_gpu_ids()
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False,
         runtime_env={"env_vars": {"PYTHONPATH": sys.argv[1]}})
print(json.dumps([sorted(spread(seen, range(3), gpus=gpus)) for gpus in (0, 0.5)]))
ray.shutdown(wait_for_processes=True)
"""


def test_work_asks_for_gpus_where_the_cluster_has_some() -> None:
    result = subprocess.run([sys.executable, "-c", WITH_A_GPU, str(ROOT)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    none, half = json.loads(result.stdout.splitlines()[-1])
    assert none == [[i, []] for i in range(3)]
    assert half == [[i, [0]] for i in range(3)]


def test_only_clips_whose_metrics_run_networks_ask_for_a_gpu(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "no_weights", lambda metric: "")
    given = (open_run("near", world / "near", world / "near_videos"), open_run("far", world / "far", None))
    asked = []

    def spread(work: Callable[[Any], Any], items: Sequence[Any], *, gpus: float = 0) -> Iterator[tuple[int, Any]]:
        asked.append((len(items), gpus))
        return ((position, Measurement()) for position in range(len(items)))

    metrics = tuple(find_definition(name) for name in ("fd_exp_eccv2022", "csim_arcface"))
    request = Request(reference=world / "reference", runs=given, metrics=metrics, splits=("test", "ood"))
    evaluation.evaluate(request, spread)
    assert asked == [(4, evaluation.NETWORK_GPUS), (4, 0)]


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> None:
    raise UserError(f"item {number}: expected another, found this; say so")


def test_work_that_is_spread_over_ray_comes_back_with_its_position_and_errors_as_they_are() -> None:
    assert dict(run.spread(double, range(20))) == {i: 2 * i for i in range(20)}
    assert dict(run.spread(double, range(3), gpus=0.5)) == {i: 2 * i for i in range(3)}  # a cluster without any
    with pytest.raises(UserError, match="^item 7: expected another, found this; say so$"):
        list(run.spread(refuse, [7]))


def test_less_than_a_minute_of_clips_is_compared_without_a_ray_of_its_own(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(run, "connect", lambda address, workers: asked.append(address))
    monkeypatch.setattr(run, "disconnect", lambda: None)
    words = ["--reference", world / "reference", "--out", tmp_path, *both(world), "--metrics", "expl1_2023"]
    for most in (313, 312):  # 24 + 26 + 28 + 26 frames of the reference, and as many of each run
        monkeypatch.setattr(evaluate, "LITTLE_FRAMES", most)
        assert evaluate.main([*map(str, words)]) == 0
    assert asked == ["local"]


def test_on_ray_every_clip_is_a_task_and_the_scores_are_the_same(world: Path) -> None:
    given = [open_run(name, world / name, world / f"{name}_videos") for name in ("near", "far")]
    metrics = tuple(find_definition(name) for name in ("fd_exp_eccv2022", "vd_exp_sum", "psnr_piq"))
    splits = ("test", "ood")
    request = Request(reference=world / "reference", runs=tuple(given), metrics=metrics, splits=splits)
    asked = []

    def on_ray(work: Callable[[Any], Any], items: Sequence[Any], *, gpus: float = 0) -> Iterator[tuple[int, Any]]:
        asked.append((work.__name__, len(items), gpus))
        return run.spread(work, items, gpus=gpus)

    there, here = (str(score_all(evaluation.evaluate(request, s), s, seed=0)) for s in (on_ray, in_this_process))
    assert there == here
    assert asked[0] == ("work_on", 2 * 4 + 4, 0)  # two runs, and the reference's own values


@pytest.fixture(scope="module")
def page():
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with browser(program) as opened:
        yield opened


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_a_browser_shows_the_page_without_errors_or_sideways_scrolling(
    width: int, height: int, page: Page, written: Path
) -> None:
    page.open(written / "leaderboard.html", width, height)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.run("document.querySelectorAll('#scatter .dot').length") == 4
    assert page.run("document.querySelector('.clip tbody').rows.length") > 3
    assert not page.trouble
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}


def test_a_browser_plays_the_videos_of_a_clip_together(page: Page, written: Path) -> None:
    page.open(written / "leaderboard.html", 1280, 900)
    play = """new Promise((done) => {
        const videos = [...document.querySelectorAll('.clip[open] video')];
        document.querySelector('[data-play]').click();
        const look = () => videos.every((v) => v.currentTime > 0) ? done(videos.length) : setTimeout(look, 50);
        look();
    })"""
    assert page.run(play) == 4
    assert not page.trouble


def test_numbers_of_the_page_are_those_of_the_table(page: Page, written: Path) -> None:
    page.open(written / "leaderboard.html", 1280, 900)
    rows = pq.read_table(written / "scores.parquet").to_pylist()
    expected = {r["clip_id"]: r["value"] for r in rows if (r["run"], r["metric"]) == (HOSTILE, "ssim_piq")}
    clips = page.run("data.clips.map((clip) => clip.id)")
    values = page.run(f"data.values.ssim_piq[{json.dumps(HOSTILE)}]")
    assert np.allclose([expected[clip] for clip in clips], values, rtol=1e-5)

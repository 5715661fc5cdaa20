"""Films in, a manifest out: generated films of every kind that people have, mined by the real stages in one run."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import status
from jobs.demo.conversation import SCENES
from jobs.demo.film import Actor, write_film
from jobs.make_demo import FILMS_DATASET
from jobs.mining.mining import CLIPS, EVIDENCE, FUNNEL, MANIFEST, PATIENCE, PICTURES, Mining
from pipeline.build import BuildOptions
from pipeline.dataset.checksums import rows_of, sound_list
from pipeline.dataset.read import read_clips
from pipeline.ledger.limits import Limits
from pipeline.ledger.report import RunReport
from pipeline.manifest.load import load_films, load_manifest
from pipeline.manifest.write import manifest_text
from pipeline.part import Done, Job
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages
from schemas.errors import UserError
from stages.faces.people_table import WITHDRAWN
from tests.labs.media import ffmpeg_binary
from tests.labs.toy_build import run_here

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
CALL = replace(SCENES[1], duration_s=Fraction("7.2"), turns=SCENES[1].turns[:2])  # two people speak by turns
RESULTS = (MANIFEST, CLIPS, EVIDENCE, FUNNEL, "people.csv", "people.parquet")
FACE, OTHER = "crop=640:720:0:0", "crop=640:720:640:0,scale=160:-2"
MADE = {  # what becomes of the call: options of ffmpeg; its first turn, where nothing else is said
    "sixty_fps": ["-t", "3", "-vf", "fps=60"],
    "portrait": ["-t", "3", "-vf", "scale=720:-2,pad=720:1280:0:430"],
    "one_face": ["-t", "3", "-vf", FACE],
    "crowd": ["-t", "3", "-filter_complex", "[0:v]split[a][b];[a][b]vstack,scale=640:-2"],
    "inset": ["-t", "3", "-filter_complex", f"[0:v]split[a][b];[a]{FACE}[c];[b]{OTHER}[d];[c][d]overlay=470:10"],
    "no_sound": ["-t", "3", "-an"],
    "fades_in": ["-t", "5", "-vf", "fade=d=0.5", "-g", "300", "-sc_threshold", "0"],  # its one keyframe is black
    "no_face": ["-t", "3", "-vf", "scale=64:36,scale=640:360:flags=neighbor,negate"],
}  # fmt: skip


def films(folder: Path) -> Path:
    """A manifest of all of them, one of which is cut off and one no film at all."""
    write_film(CALL, {name: Actor(name) for name in CALL.people}, folder / "call.mp4")
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-c:a", "aac"]
    for name, options in MADE.items():
        words = [ffmpeg_binary(), "-v", "error", "-i", str(folder / "call.mp4"), *options, *encode]
        subprocess.run([*words, str(folder / f"{name}.mp4")], check=True)
    copied = ["-c", "copy", str(folder / "whole.mkv")]
    subprocess.run([ffmpeg_binary(), "-v", "error", "-i", str(folder / "call.mp4"), *copied], check=True)
    data = (folder / "whole.mkv").read_bytes()
    (folder / "broken_tail.mkv").write_bytes(data[: len(data) * 6 // 10])
    (folder / "note.mp4").write_text("no film")
    files = ["call.mp4", *(f"{name}.mp4" for name in MADE), "broken_tail.mkv", "note.mp4"]
    blocks = [f'[[sources]]\nid = "{file.partition(".")[0]}"\npath = "{file}"\nlicence = "none"\n' for file in files]
    settings = "[stages.windows]\nwindow_s = 3.5\noverlap_s = 1\n[stages.blink]\nthreshold = 0.3\n"
    (folder / "films.toml").write_text("\n".join(['[dataset]\nname = "all"\n', *blocks, settings]))
    return folder / "films.toml"


def mining(manifest: Path, out: Path, **tables: dict[str, object]) -> Mining:
    return Mining(load_films(manifest), out, find_stages(), BuildOptions(dict(tables)))


@dataclass(frozen=True)
class Mined:
    manifest: Path
    out: Path
    report: RunReport

    def rows(self, film: str) -> list[dict]:
        return [row for row in pq.read_table(self.out / EVIDENCE).to_pylist() if row["source_id"] == film]

    def reasons(self, film: str) -> set[str]:
        return {row["reason"] for row in self.rows(film)}

    def clips(self) -> list[dict[str, str]]:
        with (self.out / CLIPS).open() as file:
            return list(csv.DictReader(file))

    def results(self) -> dict[str, bytes]:
        return {name: (self.out / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Mined:
    """Of a run that was stopped after some windows and begun anew."""
    folder = tmp_path_factory.mktemp("films")
    manifest, out = films(folder), folder / "mined"

    def stopped(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
        yield from run_here(job, pipeline, parts[:4])
        raise KeyboardInterrupt

    first = mining(manifest, out)
    with pytest.raises(KeyboardInterrupt):
        first.run(first.survey(), stopped)
    assert not (out / MANIFEST).exists()
    second = mining(manifest, out)
    return Mined(manifest, out, second.run(second.survey(), run_here))


def test_the_turns_of_a_conversation_are_found_over_the_windows_that_cut_it(mined: Mined) -> None:
    clips = [row for row in mined.clips() if row["source"] == "call"]
    turns = CALL.turns
    assert [clip["speaker_side"] for clip in clips] == [turn.speaker_side for turn in turns]
    for clip, turn in zip(clips, turns, strict=True):
        heard = [s for s in CALL.syllables if turn.span.start_s <= s.start_s < turn.span.end_s]
        assert abs(float(clip["start_s"]) - heard[0].start_s) < 0.3
        assert abs(float(clip["end_s"]) - heard[-1].end_s) < 0.3
    first, second = clips
    assert (first["speaker_id"], first["listener_id"]) == (second["listener_id"], second["speaker_id"])
    assert first["speaker_id"] != second["speaker_id"] and all(clip["split"] for clip in clips)


@pytest.mark.parametrize("film", ["sixty_fps", "portrait", "broken_tail"])
def test_a_film_in_another_format_has_the_same_first_turn(mined: Mined, film: str) -> None:
    clip, same = ([row for row in mined.clips() if row["source"] == name][0] for name in ("call", film))
    assert same["speaker_side"] == clip["speaker_side"]
    assert abs(float(same["start_s"]) - float(clip["start_s"])) < 0.15


def test_a_pair_between_keyframes_that_show_none_is_seen(mined: Mined) -> None:
    assert "clip" in mined.reasons("fades_in")


def test_status_says_that_films_are_mined(mined: Mined, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(mined.out)]) == 0
    read, windows = len(mined.report.after.published), len(mined.report.manifest.clips)
    assert f"{read} of {windows} windows of films read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        ("one_face", "one_person"),
        ("inset", "one_person"),
        ("crowd", "crowd"),
        ("no_sound", "no_audio"),
        ("no_face", "no_face"),
        ("note", "unreadable"),
    ],
)
def test_a_film_without_a_pair_says_why(mined: Mined, film: str, reason: str) -> None:
    assert mined.reasons(film) == {reason}


def test_nothing_is_lost(mined: Mined) -> None:
    found = json.loads((mined.out / FUNNEL).read_text())
    assert found["films"] == len(MADE) + 3 and found["clips"] == len(mined.clips())
    for film in ("call", *MADE):
        rows = mined.rows(film)
        assert rows[0]["start_s"] == 0 and all(a["end_s"] == b["start_s"] for a, b in zip(rows, rows[1:], strict=False))
    assert mined.rows("broken_tail")[-1]["reason"] in ("damaged", "unreadable", "no_picture")


def test_a_name_that_somebody_writes_into_the_table_of_people_holds(mined: Mined) -> None:
    table, before = mined.out / "people.csv", mined.results()
    person = mined.clips()[0]["speaker_id"]
    table.write_text(before["people.csv"].decode().replace(f"{person},", "somebody,"))
    again = mining(mined.manifest, mined.out)
    again.run(again.survey(), run_here)
    assert not again.mended and {*RESULTS} - set(dict(rows_of(sound_list(mined.out)))) == {
        "people.csv"
    }  # the table is nobody's but theirs
    assert mined.clips()[0]["speaker_id"] == "somebody" and "somebody," in table.read_text()
    table.write_bytes(before["people.csv"])
    plain = mining(mined.manifest, mined.out)
    plain.run(plain.survey(), run_here)
    assert mined.results() == before


def test_a_second_run_computes_nothing_and_leaves_the_same_bytes(mined: Mined) -> None:
    before = mined.results()
    again = mining(mined.manifest, mined.out)
    found = again.survey()
    assert not found.todo
    again.run(found, run_here)
    assert mined.results() == before


def test_settings_of_spans_change_the_clips_without_another_look_at_a_film(mined: Mined, tmp_path: Path) -> None:
    before = mined.results()
    again = mining(mined.manifest, mined.out, spans={"clips": "both"})
    found = again.survey()
    assert not found.todo
    again.run(found, run_here)
    (both,) = [row for row in mined.clips() if row["clip_id"].endswith("-turns") and row["source"] == "call"]
    assert (mined.out / MANIFEST).read_text().count("[stages.turns]") == 1
    assert load_manifest(mined.out / MANIFEST).settings["speaking"] == {"backend": "motion"}
    films = load_films(mined.manifest)
    asked = Mining(
        replace(films, stages=("blink",)), mined.out, find_stages(), BuildOptions({"spans": {"clips": "turns"}})
    )
    assert 'stages = ["blink", "speaking", "turns"]' in asked._manifest()
    starts = [float(row["start_s"]) for row in mined.clips() if row["source"] == "call"]
    assert float(both["start_s"]) == min(starts)
    plain = mining(mined.manifest, mined.out)
    plain.run(plain.survey(), run_here)
    assert mined.results() == before


def test_kills_from_outside_that_hit_one_window_again_and_again_cost_it_nothing(mined: Mined) -> None:
    assert mining(mined.manifest, mined.out).job.limits.attempts_in_all > 2 * Limits().attempts_in_all
    asked = mining(mined.manifest, mined.out, limits={"attempts": 3}).job.limits
    assert (asked.attempts, asked.attempts_in_all) == (3, PATIENCE["attempts_in_all"])


def test_the_manifest_is_one_that_a_build_takes(mined: Mined) -> None:
    made = load_manifest(mined.out / MANIFEST)
    assert {clip.clip_id for clip in made.clips} == {row["clip_id"] for row in mined.clips()}
    assert made.settings == {"blink": {"threshold": 0.3}}


def test_who_is_withdrawn_is_in_no_clip(mined: Mined, tmp_path: Path) -> None:
    person = mined.clips()[0]["speaker_id"]
    text = mined.manifest.read_text()
    without = mined.manifest.with_name("without.toml")
    without.write_text(text.replace('name = "all"', f'name = "all"\ntakedown = ["{person}"]'))
    again = mining(without, mined.out)
    again.run(again.survey(), run_here)
    assert all(person not in row.values() for row in mined.clips())
    assert {row["detail"] for row in mined.rows("call") if row["reason"] == "withdrawn"} == {f"{person} is withdrawn"}
    assert not (mined.out / WITHDRAWN).exists()
    with pytest.raises(UserError, match="no clips"):
        load_manifest(mined.out / MANIFEST)


@pytest.mark.timeout(900)
def test_the_five_commands_of_the_tutorial_lead_from_three_films_to_a_trained_listener(
    mined: Mined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "mining.md").read_text(), flags=re.DOTALL)[:1]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [words[2] for words in commands] == [
        f"jobs.{job}" for job in ("mine", "build", "train", "predict", "render")
    ]
    (tmp_path / "films").mkdir()
    films = {name: str(mined.manifest.parent / f"{name}.mp4") for name in ("call", "portrait", "one_face")}
    sources = [{"id": name, "path": path, "licence": "none"} for name, path in films.items()]
    text = manifest_text(FILMS_DATASET, sources)
    (tmp_path / "films" / "films.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    quick = {"jobs.train": ["--set", "epochs=3", "--num-workers", "0"], "jobs.render": ["--workers", "1"]}
    for words in commands:
        assert import_module(words[2]).main([*words[3:], *quick.get(words[2], [])]) == 0, words
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    published = [row["clip_id"] for row in read_clips(tmp_path / "data")]
    assert len(published) == 3 and all((tmp_path / "videos" / f"{clip_id}.mp4").is_file() for clip_id in published)
    assert (tmp_path / "mined" / PICTURES / "call.png").stat().st_size > 5000

"""What the viewer says of a data set, held against what was written, whatever state the data set is in."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import view
from jobs.viewer.data import Answers
from jobs.viewer.index import FOLDER
from jobs.viewer.opened import Opened
from jobs.viewer.outcomes import Outcomes
from jobs.viewer.static import export
from pipeline.dataset.read import ClipTable, read_clips
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_dataset
from pipeline.ledger.diary import attempts_of
from pipeline.ledger.progress import RunStart
from schemas.column import ROLES, Column
from schemas.dataset import PREDICTED
from schemas.errors import UserError
from schemas.outcome import REJECTED, Outcome
from schemas.score import ClipScore, clip_score_table
from tests.labs.viewing import HOSTILE, spoken_set, strange_set, write_many


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / FOLDER


def measured(answers: Answers) -> dict[str, dict[str, float]]:
    """Measure -> clip -> number, as a page gets them."""
    answers.refresh()
    answers.index.wait()
    clips = json.loads(answers.clips())
    names = [one["name"] for one in answers.dataset()["measures"]]
    values = answers.measures(names, clips["version"])
    return {name: dict(zip(clips["ids"], row.tolist(), strict=True)) for name, row in zip(names, values, strict=True)}


def test_columns_of_an_unknown_stage_get_measures_that_equal_plain_loops(tmp_path: Path) -> None:
    rows = strange_set(tmp_path / "data")
    found = measured(Answers(Opened(tmp_path / "data")))
    for row in rows:
        clip, frames = str(row["clip_id"]), row["num_frames"]
        openness = [x if math.isfinite(x) else None for x in row["gaze_openness"].tolist()]
        votes = row["gaze_votes"].reshape(frames, 6)
        steps = [np.linalg.norm(b - a) for a, b in zip(votes, votes[1:], strict=False)]
        steps = [step for step in steps if np.isfinite(step)]
        towards = row["gaze_towards"].tolist()
        begins = sum(now and not before for before, now in zip([False, *towards], towards, strict=False))
        trust = [word["trust"] for word in row["gaze_words"]]
        there = [x for x in openness if x is not None]
        expected = {
            "gaze_openness.mean": np.mean(there) if there else np.nan,
            "gaze_openness.min": min(there, default=np.nan),
            "gaze_openness.invalid": openness.count(None) / frames,
            "gaze_votes.jump": max(steps, default=np.nan),
            "gaze_votes.motion": 30 * np.mean(steps) if steps else np.nan,
            "gaze_votes.invalid": np.mean([not np.isfinite(one).all() for one in votes]),
            "gaze_towards.share": np.mean(towards),
            "gaze_towards.rate": begins / (frames / 30 / 60),
            "gaze_sure": row["gaze_sure"],
            "gaze_words.count": len(trust),
            "gaze_words.trust.mean": np.mean(trust) if trust else np.nan,
            "gaze_words.trust.min": min(trust, default=np.nan),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][clip], value, rtol=2e-5, atol=1e-6, err_msg=f"{clip} {name}")


def test_values_are_those_of_the_shard_and_what_is_not_a_number_stays_so(tmp_path: Path) -> None:
    strange_set(tmp_path / "data")
    answers = Answers(Opened(tmp_path / "data"))
    for row in read_clips(tmp_path / "data", ["gaze_votes", "gaze_openness", "gaze_towards"]):
        for name in ("gaze_votes", "gaze_openness", "gaze_towards"):
            found = answers.column(row["clip_id"], name)
            wanted = np.asarray(row[name], np.float32).reshape(row["num_frames"], -1)
            assert found.dtype == np.dtype("<f4")
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(UserError, match="no column of that name"):
        answers.column("c000", "gaze_sure")


def test_one_value_costs_one_row_group_and_one_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path / "data", 400, shards=2)
    read = []
    kept = ClipTable.groups
    monkeypatch.setattr(ClipTable, "groups", lambda self, *what: read.append(what) or kept(self, *what))
    Answers(Opened(tmp_path / "data")).column("s0001_000050", "listener_angle")
    assert {len(groups) for groups, _ in read} == {1} and len({groups[0] for groups, _ in read}) == 1
    assert {tuple(names) for _, names in read} == {("clip_id",), ("listener_angle",)}


def test_hostile_names_are_data_in_every_answer(tmp_path: Path) -> None:
    strange_set(tmp_path / "data")
    answers = Answers(Opened(tmp_path / "data"))
    assert answers.dataset()["name"] == HOSTILE
    assert set(json.loads(answers.clips())["attitude"]) == {HOSTILE}
    json.dumps([answers.dataset(), answers.overview(), answers.clip("c001")], allow_nan=False)
    assert answers.clip("c001")["media"] == {"speaker": None, "listener": None, "audio": None, "source": None}


def test_each_persons_own_sound_and_words_are_shown_beside_those_of_both(tmp_path: Path) -> None:
    answers, clip_id = Answers(Opened(spoken_set(tmp_path))), "a_000000_000001"
    said = answers.clip(clip_id)
    assert said["media"]["audio"] == f"/media/{clip_id}/audio.wav" and said["media"]["speaker"] is None
    assert said["sounds"] == {role: f"/media/{clip_id}/{role}.wav" for role in ROLES}
    assert [word["text"] for word in said["words"]] == ["both"]  # and not what was dropped
    assert {name: words[0]["text"] for name, words in said["own_words"].items()} == {
        f"{role}_words": f"{role}_" for role in ROLES
    }
    assert answers.media(clip_id, "listener.wav").name == "listener.wav"
    export(answers, tmp_path / "pages", media=["audio.wav", "speaker.wav"])
    assert sorted(path.name for path in (tmp_path / "pages/media" / clip_id).iterdir()) == ["audio.wav", "speaker.wav"]


def test_an_index_is_made_once_a_content_and_holds_no_ids(tmp_path: Path, cache: Path, monkeypatch) -> None:
    write_many(tmp_path / "data", 300, shards=3)
    first = measured(Answers(Opened(tmp_path / "data")))
    entries = sorted(cache.glob("*.parquet"))
    assert len(entries) == 3 and not any(b"s0000_" in path.read_bytes() for path in entries)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.viewer.index.measure_file", lambda path: pytest.fail("measured again"))
        np.testing.assert_equal(measured(Answers(Opened(tmp_path / "data"))), first)
    entries[0].write_bytes(b"damaged")
    np.testing.assert_equal(measured(Answers(Opened(tmp_path / "data"))), first)
    write_many(tmp_path / "data2", 300, shards=3, seed=1)
    assert measured(Answers(Opened(tmp_path / "data2"))) != first
    assert len(list(cache.glob("*.parquet"))) == 6


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path / "data", 60, shards=2)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VICO_CACHE", str(tmp_path / "file"))
    assert len(measured(Answers(Opened(tmp_path / "data")))) == 7


def half_built(root: Path) -> None:
    """A first build in its middle: one stage is done with both parts, the next with one, of which a clip fell out."""
    store = Store(root)
    store.write_text(
        store.ledger / "parts.json", json.dumps({"a_0": "part-00000", "a_1": "part-00000", "b_0": "part-00001"})
    )
    waiting = {"first": 3, "second": 3}
    RunStart("run", "half", settled=dict.fromkeys(waiting, 0), waiting=waiting).write(store)
    columns = {
        "first": Column("tempo", "float32", ("frame",), "1"),
        "second": Column("heart", "float32", ("frame",), "1/s"),
    }
    said = {"tempo": np.arange(12, dtype=np.float32)}
    for part, ids in (("part-00000", ("a_0", "a_1")), ("part-00001", ("b_0",))):
        store.write_columns("first", part, [columns["first"]], [Outcome(one, "p", values=said) for one in ids], {})
    rows = [
        Outcome("a_0", "p", values={"heart": np.ones(12, np.float32)}),
        Outcome("a_1", "p", REJECTED, "too_fast", "x"),
    ]
    store.write_columns("second", "part-00000", [columns["second"]], rows, {})
    attempts = attempts_of(store, "part-00000", "run")
    attempts.end(attempts.about("second", "a_1", "p"), REJECTED, 0.1, frames=[7, 9])


def test_a_data_set_shows_while_it_is_built_for_the_first_time(tmp_path: Path) -> None:
    half_built(tmp_path)
    answers = Answers(Opened(tmp_path))
    clips = json.loads(answers.clips())
    assert clips["ids"] == ["a_0", "a_1", "b_0"] and clips["split"] == [None] * 3
    funnel = {
        step["stage"]: (step["ok"], [one["reason"] for one in step["stopped"]]) for step in answers.overview()["funnel"]
    }
    assert funnel == {"first": (3, []), "second": (1, ["too_fast"])}
    assert answers.rejects()["clip_id"] == ["a_1"]
    assert answers.reject("a_1") == {"frames": [7, 9]}
    assert [one["name"] for one in answers.clip("a_0")["columns"]] == ["tempo", "heart"]
    assert [one["name"] for one in answers.clip("a_1")["columns"]] == ["tempo"]
    assert answers.clip("b_0")["num_frames"] == 12
    np.testing.assert_array_equal(answers.column("b_0", "tempo")[:, 0], np.arange(12))
    found = measured(answers)
    assert found["tempo.max"] == {"a_0": 11, "a_1": 11, "b_0": 11}
    assert found["heart.mean"]["a_0"] == 1 and np.isnan(found["heart.mean"]["a_1"])
    (tmp_path / "takedown.txt").write_text("a\n")  # a source; of a clip without a manifest only its id can tell
    assert json.loads(answers.clips())["ids"] == ["b_0"] and answers.rejects()["clip_id"] == []


def test_shards_that_a_build_writes_appear_without_a_restart(tmp_path: Path) -> None:
    write_many(tmp_path, 40, shards=2)
    answers = Answers(Opened(tmp_path))
    before = json.loads(answers.clips())
    shutil.rmtree(tmp_path / "ledger")
    for path in (tmp_path / "shards").iterdir():
        path.unlink()
    write_many(tmp_path, 60, shards=3)
    after = json.loads(answers.clips())
    assert (len(before["ids"]), len(after["ids"])) == (40, 60) and before["version"] != after["version"]
    (licence,) = answers.overview()["licences"]
    assert (licence["sources"], licence["clips"]) == (1, 60)  # a source of which nothing is shown is not counted
    assert len(measured(answers)["listener_angle.jump"]) == 60


def test_predictions_scores_and_films_stand_beside_their_clips(tmp_path: Path) -> None:
    write_many(tmp_path / "data", 40, shards=2)
    column = Column("listener_angle", "float32", ("frame", 3), "rad")
    rows = [row for row in read_clips(tmp_path / "data", ["listener_angle"], {"test"})]
    for row in rows:
        row["listener_angle"] = np.full((row["num_frames"], 3), 0.5, np.float32)
    write_dataset(tmp_path / "guess", rows, [column], name="guess", kind=PREDICTED, stages={})
    clip = rows[0]["clip_id"]
    scored = {
        "run": "guess",
        "metric": "fd_exp_eccv2022",
        "clip_id": clip,
        "split": "test",
        "attitude": None,
        "num_frames": 5,
    }
    scores = [ClipScore(sample=k, value=value, **scored) for k, value in enumerate((1.0, 3.0))]
    (tmp_path / "scores").mkdir()
    pq.write_table(clip_score_table(scores), tmp_path / "scores" / "scores.parquet")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / f"{clip}.mp4").write_bytes(b"film")
    places = [str(tmp_path / name) for name in ("guess", "scores")] + [f"rendered={tmp_path / 'films'}"]
    answers = view.open_all(str(tmp_path / "data"), places)
    listed = json.loads(answers.clips())
    predicted = {row["clip_id"] for row in rows}
    assert listed["predicted"] == ["guess" if one in predicted else "none" for one in listed["ids"]]
    said = answers.clip(clip)
    assert [one["name"] for one in said["columns"] if one["of"] == "guess"] == ["listener_angle"]
    assert (answers.column(clip, "listener_angle", "guess") == 0.5).all()
    assert said["scores"][0] | {"meaning": ""} == {
        "run": "guess", "metric": "fd_exp_eccv2022", "value": 2.0, "name": said["scores"][0]["name"],
        "unit": said["scores"][0]["unit"], "better": "lower is better", "meaning": "",
    }  # fmt: skip
    assert measured(answers)["score.guess.fd_exp_eccv2022"][clip] == 2.0
    assert answers.media(clip, "listener.mp4", "rendered") == tmp_path / "films" / f"{clip}.mp4"
    assert list(said["renders"]) == ["rendered"]
    with pytest.raises(UserError, match="expected a prediction"):
        view.open_all(str(tmp_path / "data"), [str(tmp_path)])


def test_a_ledger_of_many_clips_stays_arrow_until_few_are_left(tmp_path: Path) -> None:
    write_many(tmp_path, 2000)
    outcomes = Outcomes(Opened(tmp_path))
    assert len(outcomes.rejects()["clip_id"]) == 100
    assert [(step.stage, step.stopped) for step in outcomes.funnel()] == [("made_up", (("rejected", "too_dull", 100),))]

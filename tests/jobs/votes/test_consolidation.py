"""Labels and agreement of planted votes are those that were planted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import consolidate
from jobs.votes.consolidation import OPEN, VALID, WAITING, decide
from jobs.votes.films import open_films
from jobs.votes.order import order
from jobs.votes.store import ADJUDICATION, FIRST, REPEAT, VoteFile
from pipeline.manifest.load import load_manifest
from schemas.agreement import Agreement
from tests.labs import votes as planted
from tests.labs.votes import CLIPS, LABELS, NEG, NEU, PLANTED, POS, check_outcome, no, rows_of, yes


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    manifest = planted.make_films(folder)
    planted.cast(open_films(str(manifest)))
    return manifest


@pytest.fixture(scope="module")
def out(manifest: Path) -> Path:
    assert consolidate.main([str(manifest), "--out", str(manifest.parent / "labels")]) == 0
    return manifest.parent / "labels"


def test_labels_alpha_kappa_and_what_is_left_to_adjudicate_are_those_that_were_planted(out: Path) -> None:
    check_outcome(out)


def test_the_table_is_one_that_a_manifest_takes_and_changed_times_keep_the_clips_id(manifest: Path, out: Path) -> None:
    labelled = manifest.parent / "labelled.toml"
    labelled.write_text(manifest.read_text().replace('"clips.csv"', '"labels/clips.csv"'))
    clips = {clip.clip_id: clip for clip in load_manifest(labelled).clips}
    assert list(clips) == list(LABELS) and clips[CLIPS[11]].span.num_frames == 42
    assert clips[CLIPS[0]].span == load_manifest(manifest).clips[0].span


def test_every_vote_is_in_the_table_of_votes_with_who_gave_it(out: Path) -> None:
    rows = pq.read_table(out / "votes.parquet").to_pylist()
    assert len(rows) == 39 and sum(row["round"] == REPEAT for row in rows) == 3
    row = next(r for r in rows if (r["clip_id"], r["annotator"], r["round"]) == (CLIPS[6], "bea", FIRST))
    assert row["failed"] == ["faces", "live"] and row["attitude"] is None and not row["valid"] and not row["stale"]


def test_the_report_for_programs_holds_no_names_and_is_read_as_it_was_written(out: Path) -> None:
    text = (out / "agreement.json").read_text()
    assert not any(name in text for name in planted.ANNOTATORS)
    assert Agreement.of_json(json.loads(text)).outcomes["valid"] == 8
    assert "ada, bea" in (out / "agreement.md").read_text()


def test_votes_on_what_has_changed_since_are_stale_and_not_counted(manifest: Path, tmp_path: Path) -> None:
    films = open_films(str(manifest))
    changed = planted.make_films(tmp_path)
    changed.with_name("clips.csv").write_text(changed.with_name("clips.csv").read_text().replace("a,1,2.5", "a,1,2.6"))
    again = open_films(str(changed))
    same = [clip_id for clip_id in CLIPS if films.films[clip_id].fingerprint == again.films[clip_id].fingerprint]
    assert same == list(CLIPS[1:])
    words = [str(changed), "--votes", str(films.votes_folder), "--out", str(tmp_path / "labels")]
    assert consolidate.main(words) == 0
    report = json.loads((tmp_path / "labels" / "agreement.json").read_text())
    assert report["outcomes"]["waiting"] == 1 and report["stale"] >= 3


def test_an_adjudication_decides_and_two_that_differ_decide_nothing(manifest: Path) -> None:
    film = open_films(str(manifest)).films[CLIPS[5]]
    first = PLANTED[CLIPS[5]]
    assert decide(film, first, [], 3).outcome == OPEN
    assert decide(film, first, [NEG], 3).label == NEG and decide(film, first, [NEG], 3).adjudicated
    assert decide(film, first, [NEG, POS], 3).outcome == OPEN
    assert decide(film, first, [NEG, POS, NEG], 3).label == NEG


def test_a_tie_is_never_broken_by_a_guess(manifest: Path) -> None:
    film = open_films(str(manifest)).films[CLIPS[0]]
    assert decide(film, [POS, NEU], [], 2).undecided == ("attitude",)
    assert decide(film, [POS, no("live")], [], 2).undecided == ("valid",)
    assert decide(film, [yes("neutral", "left"), yes("neutral", "right")], [], 2).undecided == ("side",)
    assert decide(film, [POS, POS, NEU, NEG], [], 3).undecided == ("attitude",)  # two of four are no majority
    far = [POS, replace(POS, in_frame=30), POS]
    assert decide(film, far, [], 3).undecided == ("times",)
    assert decide(film, [POS, POS], [], 3).outcome == WAITING
    assert decide(film, [POS], [], 1).outcome == VALID


def test_what_is_adjudicated_leaves_the_list_and_enters_the_table(manifest: Path, tmp_path: Path) -> None:
    films = open_films(str(manifest))
    copy = tmp_path / "votes"
    copy.mkdir()
    for path in films.votes_folder.glob("*.jsonl"):
        (copy / path.name).write_bytes(path.read_bytes())
    clip_id = CLIPS[5]
    VoteFile(copy, "judge").vote("u", clip_id, ADJUDICATION, films.films[clip_id].fingerprint, NEU)
    assert consolidate.main([str(manifest), "--votes", str(copy), "--out", str(tmp_path / "out")]) == 0
    assert [row["clip_id"] for row in rows_of(tmp_path / "out" / "adjudicate.csv")] == [CLIPS[8]]
    assert {r["clip_id"]: r["attitude"] for r in rows_of(tmp_path / "out" / "clips.csv")}[clip_id] == "neutral"
    report = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert (report["adjudicated"], report["annotators"], report["votes"]) == (1, 3, 36)


def test_without_votes_the_command_says_who_could_give_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert consolidate.main([str(planted.make_films(tmp_path)), "--out", str(tmp_path / "out")]) == 2
    assert "jobs.annotate" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_table_that_was_judged_is_not_overwritten(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = manifest.with_name("clips.csv").read_bytes()
    assert consolidate.main([str(manifest), "--out", str(manifest.parent)]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert manifest.with_name("clips.csv").read_bytes() == before


def test_everybody_has_an_order_of_their_own_in_which_one_in_twenty_comes_again_later() -> None:
    clips = [f"clip-{i}" for i in range(100)]
    lists = {who: order(who, clips) for who in planted.ANNOTATORS}
    firsts = {who: [clip_id for clip_id, round in items if round == FIRST] for who, items in lists.items()}
    assert all(sorted(seen) == sorted(clips) for seen in firsts.values())
    assert firsts["ada"] != firsts["bea"] != firsts["cyd"] and order("ada", clips[::-1]) == lists["ada"]
    for items in lists.values():
        again = [clip_id for clip_id, round in items if round == REPEAT]
        assert len(again) == len(set(again)) == 5
        assert all(items.index((clip_id, REPEAT)) - items.index((clip_id, FIRST)) > 33 for clip_id in again)
    more = [item for item in order("ada", [*clips, "new"]) if item[1] == FIRST and item[0] != "new"]
    assert [clip_id for clip_id, _ in more] == firsts["ada"]
    assert [len(order("ada", clips[:number])) for number in (0, 1, 3, 4, 12)] == [0, 1, 3, 5, 13]

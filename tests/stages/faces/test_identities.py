"""Who is who: people whose distances are known by construction, and the table in which a person mends them."""

from __future__ import annotations

import csv
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UserError
from stages.faces.identities import MERGE, SPLIT, Known, People, Track, who_is_who
from stages.faces.people_table import FACES, TABLE, keep_withdrawn, read_known, read_looks, write_people

NUM_NUMBERS = 128
STRANGERS = 0.77  # median distance of two people, as other builders of such data measured it
AGAIN = 0.25  # of a person from another day: they have .23 and .28
FRAME = 0.25  # of a frame from the mean of its track


def points(rng: np.random.Generator, shape: tuple[int, ...], distance: float) -> np.ndarray:
    """Random points (..., 128) that lie ``distance`` from each other at the median: a ball has almost no middle."""
    return rng.normal(size=(*shape, NUM_NUMBERS)) * distance / np.sqrt(2 * NUM_NUMBERS)


def films(num_people: int, num_films: int, shots: int, seed: int = 0) -> tuple[list[Track], dict[tuple[str, str], int]]:
    """Every film shows two people together, shot after shot; and who is in which track."""
    rng = np.random.default_rng(seed)
    people, tracks, truth = points(rng, (num_people,), STRANGERS), [], {}
    for film in range(num_films):
        pair = rng.permutation(num_people)[:2]
        days = people[pair] + points(rng, (2,), AGAIN)
        for shot in range(shots):
            for side in (0, 1):
                faces = days[side] + points(rng, (4,), FRAME)
                track = Track(f"film{film:02}", f"{shot}-{side}", 2.0 * shot, 2.0 * shot + 2, 0.25 + side / 2, faces)
                tracks.append(track)
                truth[track.key] = int(pair[side])
    return tracks, truth


def track(film: str, name: str, start_s: float, face: np.ndarray, num_faces: int = 5) -> Track:
    return Track(film, name, start_s, start_s + 1, 0.5, np.repeat(face[None], num_faces, axis=0))


def at(*numbers: float) -> np.ndarray:
    """A face of which only the first numbers are not 0: distances can be told by looking."""
    return np.pad(np.array(numbers), (0, NUM_NUMBERS - len(numbers)))


def groups(names: Mapping[tuple[str, str], str]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(key for key in names if names[key] == name) for name in names.values()}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def rewrite(folder: Path, rows: Sequence[Mapping[str, str]], separator: str = ",") -> None:
    with (folder / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def twelve() -> tuple[list[Track], dict[tuple[str, str], int]]:
    return films(num_people=12, num_films=20, shots=6)


def test_people_are_found_again_in_other_shots_and_films_and_nobody_is_taken_for_another(twelve) -> None:
    tracks, truth = twelve
    people = who_is_who(tracks)
    names = people.names()
    assert groups(names) == groups({key: str(person) for key, person in truth.items()})
    assert not people.doubts
    for person in people.persons:
        assert person.spread < 0.4 < 0.5 < person.distance and person.margin > 0.2
    assert sorted(set(names.values())) == [f"p{number:04d}" for number in range(1, len(set(truth.values())) + 1)]
    assert names[tracks[0].key] == "p0001"  # the first face of the first film


def test_the_order_of_tracks_makes_no_difference(tmp_path: Path, twelve) -> None:
    tracks, _ = twelve
    shuffled = [tracks[row] for row in np.random.default_rng(1).permutation(len(tracks))]
    for name, some in (("once", tracks), ("again", shuffled)):
        write_people(tmp_path / name, who_is_who(some))
    for name in (TABLE, FACES):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_two_faces_on_the_screen_together_are_two_people_however_much_they_look_alike() -> None:
    tracks = [track("f", "left", 0, at(0)), track("f", "right", 0.5, at(0.01)), track("g", "again", 0, at(0.02))]
    names = who_is_who(tracks).names()
    assert names["f", "left"] != names["f", "right"] and names["g", "again"] == names["f", "right"]
    later = [replace(tracks[0], end_s=0.5), tracks[1]]  # one goes when the other comes
    assert len(who_is_who(later).persons) == 1


def test_margins_are_the_distances_that_the_faces_have() -> None:
    tracks = [track("a", "1", 0, at(0)), track("b", "1", 0, at(0.2)), track("c", "1", 0, at(0.1, 0.9))]
    one, other = who_is_who(tracks).persons
    assert (one.name, one.nearest, other.nearest) == ("p0001", "p0002", "p0001")
    np.testing.assert_allclose([one.spread, other.spread], [0.2, 0], atol=1e-6)
    np.testing.assert_allclose([one.distance, one.margin], [np.hypot(0.1, 0.9), np.hypot(0.1, 0.9) - 0.2], atol=1e-6)


def test_pairs_that_may_be_one_person_and_looks_that_may_be_another_are_told() -> None:
    tracks = [track("a", "1", 0, at(0)), track("b", "1", 0, at(0.38)), track("c", "1", 0, at(0.19, 0.4))]
    split, merge = who_is_who(tracks).doubts
    assert (split.kind, {split.one.film, split.other.film}) == (SPLIT, {"a", "b"})
    assert (merge.kind, merge.other.film) == (MERGE, "c")
    np.testing.assert_allclose([split.distance, merge.distance], [0.38, np.hypot(0.19, 0.4)], atol=1e-6)
    together = [track("f", "left", 0, at(0)), track("f", "right", 0, at(0.45))]
    assert not who_is_who(together).doubts  # nobody needs to be asked


@pytest.mark.parametrize("count", [1, 2, 5])
def test_distances_are_those_that_five_faces_would_have_however_few_there_are(count: int) -> None:
    """The mean of n faces of variance s lies s/n, squared, from where it should."""
    rng = np.random.default_rng(count)
    deviation = np.sqrt(0.03 / NUM_NUMBERS)  # of a number: .03 is the squared distance of one face from the middle
    pairs = np.stack([at(0), at(0.7)])[:, None] + rng.normal(size=(200, 2, count, NUM_NUMBERS)) * deviation
    tracks = [[Track(name, "1", 0, 1, 0.5, faces) for name, faces in zip("ab", pair, strict=True)] for pair in pairs]
    squares = [who_is_who(pair).persons[0].distance ** 2 for pair in tracks]
    assert np.mean(squares) == pytest.approx(0.49 + 2 * 0.03 / 5, abs=0.004)


def run(folder: Path, tracks: Sequence[Track], withdrawn: Sequence[str] = ()) -> People:
    """What a run of the miner does, by id."""
    people = who_is_who(tracks, read_known(folder))
    write_people(folder, people, withdrawn)
    return people


def test_names_stay_when_films_are_added_and_a_second_run_writes_the_same_bytes(tmp_path: Path, twelve) -> None:
    tracks, truth = twelve
    later = [one for one in tracks if one.film >= "film10"]  # added are films that come before them in order
    before = run(tmp_path, later).names()
    written = [(tmp_path / name).read_bytes() for name in (TABLE, FACES)]
    run(tmp_path, later)
    assert [(tmp_path / name).read_bytes() for name in (TABLE, FACES)] == written
    after = run(tmp_path, tracks).names()
    assert {key: after[key] for key in before} == before
    assert groups(after) == groups({key: str(person) for key, person in truth.items()})
    alone = who_is_who([one for one in tracks if one.film < "film10"], read_known(tmp_path)).names()
    assert alone == after, "films that are not mined again are known by the faces that were kept"


def test_a_name_written_into_the_table_merges_and_a_new_one_splits(tmp_path: Path, twelve) -> None:
    tracks, _ = twelve
    before = run(tmp_path, tracks).names()
    rows = table(tmp_path)
    merged, into = rows[-1]["person"], rows[0]["person"]
    off = next(row for row in rows if row["person"] not in (merged, into))
    for row in rows:
        row["person"] = into if row["person"] == merged else row["person"]
    off["person"] = "Anna"
    rewrite(tmp_path, rows[::-1], separator=";")  # sorted otherwise, by a spreadsheet of another country
    after = run(tmp_path, tracks).names()
    assert merged not in after.values()
    assert {after[key] for key in before if before[key] == merged} == {into}
    changed = {key for key in before if after[key] not in (before[key], into)}
    assert changed and {after[key] for key in changed} == {"Anna"} and {film for film, _ in changed} == {off["film"]}
    assert run(tmp_path, tracks).names() == after
    rewrite(tmp_path, [row for row in table(tmp_path) if row["person"] != "Anna"])
    assert {run(tmp_path, tracks).names()[key] for key in changed} == {before[key] for key in changed}, "decided anew"


def test_a_table_that_gives_one_name_to_two_people_on_the_screen_is_refused(tmp_path: Path, twelve) -> None:
    tracks, _ = twelve
    run(tmp_path, tracks)
    rows = table(tmp_path)
    ours = [row for row in rows if row["film"] == "film03"]
    rewrite(tmp_path, [{**row, "person": "both"} if row in ours else row for row in rows])
    with pytest.raises(UserError, match="'both' stands beside track '0-0' of 'film03' and beside '0-1'"):
        run(tmp_path, tracks)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["person,film", "p,f"], "line 1: missing column track"),
        (["person,film,track", "p 1,f,1"], "line 2, column 'person': found 'p 1'"),
        (["person,film,track", "p,f,1", "q,f,1"], "line 3: film 'f' and track '1' stand there twice"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, lines: list[str], said: str) -> None:
    (tmp_path / TABLE).write_text("\n".join(lines))
    with pytest.raises(UserError, match=said):
        read_known(tmp_path)


def test_of_a_withdrawn_person_names_of_tracks_are_kept_and_no_face(tmp_path: Path, twelve) -> None:
    tracks, _ = twelve
    names = run(tmp_path, tracks, withdrawn=["p0001"]).names()
    theirs = {key for key in names if names[key] == "p0001"}
    kept = {look.keys[0]: look for look in read_looks(tmp_path / FACES)}
    assert all((look.mean is None) == (key in theirs) for key, look in kept.items()) and len(kept) > len(theirs) > 0
    assert {key for key, name in run(tmp_path, tracks).names().items() if name == "p0001"} == theirs
    stranger = [replace(one, film="new") for one in tracks if one.key in theirs and one.film == tracks[0].film]
    again = who_is_who(stranger, read_known(tmp_path)).names()
    assert "p0001" not in {again[one.key] for one in stranger}, "nothing tells the face"


def test_whoever_looks_like_a_withdrawn_person_gets_that_name_until_the_id_leaves_the_list(tmp_path: Path) -> None:
    path = tmp_path / "withdrawn_faces.parquet"
    gone = who_is_who([track("old", "1", 0, at(0))])
    looks = keep_withdrawn(path, gone.persons[0].looks, ["p0001"])
    tracks = [track("new", "1", 0, at(0.44)), track("new", "2", 2, at(0.8)), track("more", "1", 0, at(0, 0.9))]
    names = who_is_who(tracks, Known(withdrawn=looks)).names()
    assert names == {("new", "1"): "p0001", ("new", "2"): "p0001", ("more", "1"): "p0002"}
    assert keep_withdrawn(path, (), ["p0001"])[0].film == "old"
    assert keep_withdrawn(path, (), []) == () and not read_looks(path)


@pytest.mark.slow
def test_ten_thousand_tracks_take_seconds_and_a_gigabyte() -> None:
    tracks, truth = films(num_people=300, num_films=50, shots=100, seed=2)
    start_s = time.process_time()
    people = who_is_who(tracks)
    assert time.process_time() - start_s < 60
    assert groups(people.names()) == groups({key: str(person) for key, person in truth.items()})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3e6  # kB

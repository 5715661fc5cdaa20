"""Bad media through a whole build of the stages clip and face: no clip costs another, each has its reason."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.build import Build
from pipeline.dataset.check import check_dataset
from pipeline.ledger.survey import read_ledger
from schemas.outcome import OK, REJECTED
from tests.labs.mutants import Specimen, Targets, cut, flipped, grafted, leading, lying, make_conversation
from tests.labs.toy_build import build_own_stages, write_manifest
from tests.labs.witness import witnesses

WHOLE = "whole"


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_conversation(tmp_path_factory.mktemp("conversation"))


@pytest.fixture
def targets(tmp_path_factory: pytest.TempPathFactory, conversation: bytes) -> Iterator[Targets]:
    """A canary and a port that must stay untouched until the test ends."""
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "film.mp4").write_bytes(conversation)
    with witnesses(folder) as (files, port):
        yield Targets(folder / "film.mp4", port.port)
        assert not files.seen() and not port.seen()


def specimens(film: bytes, targets: Targets, trials: int) -> list[Specimen]:
    """Mutants of one film, and every kind of playlist once."""
    seeds = {"mp4": film}
    random = [*flipped(seeds, trials), *cut(seeds, trials), *lying(seeds, trials)]
    mixed = grafted({"mp4": film, "mov": film[::-1]}, trials // 2)
    return [*random, *mixed] + [one for one in leading({"mp4": film, "mov": film}, targets) if "_path." in one.name]


def build(folder: Path, bad: Sequence[Specimen], film: bytes) -> Build:
    """A build of all bad files, and of the whole film first, in the middle and last."""
    files = {f"{WHOLE}_{place}": film for place in ("a", "m", "z")}
    files |= {f"{'bn'[number % 2]}{number}_{one.family}": one.data for number, one in enumerate(bad)}
    for name, data in files.items():
        (folder / f"{name}.mp4").write_bytes(data)
    rows = [f"{name},0,1,left,,p{i},q{i},train" for i, name in enumerate(files)]
    sources = {name: f"{name}.mp4" for name in files}
    manifest = write_manifest(folder / "bad.toml", sources, rows, 'stages = ["clip", "face"]\n')
    return build_own_stages(manifest, folder / "out")[0]


def check_ends(made: Build, bad: Sequence[Specimen]) -> Counter[str]:
    """How often each reason, or outcome without one, is what the last stage that saw a clip said."""
    found = {row["clip_id"]: (row["outcome"], row["reason"]) for row in read_ledger(made.store)}
    assert len(found) == len(bad) + 3, "every clip is accounted for"
    reasons = {reason for stage in made.pipeline.stages for reason in stage.rejects}
    for clip_id, (outcome, reason) in found.items():
        if clip_id.startswith(WHOLE):
            assert (outcome, reason) == (OK, ""), "a good clip is not touched by bad ones"
        else:
            assert outcome == OK or (outcome == REJECTED and reason in reasons), (clip_id, outcome, reason)
    assert not list(check_dataset(made.store.root)), "what is published is sound"
    return Counter(reason or outcome for outcome, reason in found.values())


@pytest.mark.parametrize(
    ("trials", "step", "at_least"), [(4, 3, 10), pytest.param(24, 1, 100, marks=pytest.mark.slow)], ids=["a few", "all"]
)
def test_bad_films_between_good_ones_end_with_a_reason_and_the_good_ones_are_published(
    conversation: bytes, targets: Targets, tmp_path: Path, trials: int, step: int, at_least: int
) -> None:
    bad = specimens(conversation, targets, trials)[::step]
    assert len(bad) >= at_least
    count = check_ends(build(tmp_path, bad, conversation), bad)
    print(count.most_common())
    assert count["unreadable"] and count["not_allowed"] and count[OK] >= 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".mp4") == ["bad.toml", "clips.csv", "out"]


@pytest.mark.slow
@pytest.mark.shared
def test_damaged_copies_of_real_footage_end_with_a_reason(shared: Path, targets: Targets, tmp_path: Path) -> None:
    films = sorted((shared / "media/vico").glob("*.mp4"), key=lambda path: path.stat().st_size)[:2]
    seeds = {f"real{number}": path.read_bytes() for number, path in enumerate(films)}
    bad = [*flipped(seeds, 10), *cut(seeds, 5), *lying(seeds, 5)]
    bad = [dataclasses.replace(one, name=one.name.replace(".real", "_real") + ".mp4") for one in bad]
    print(check_ends(build(tmp_path, bad, films[0].read_bytes()), bad).most_common())

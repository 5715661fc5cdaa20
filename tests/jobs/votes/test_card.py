"""The dataset card says how labels came about, where people voted on them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from schemas.agreement import Agreement, BoundaryAgreement, Interval, QuestionAgreement
from schemas.errors import UserError
from tests.labs.toy_build import ToyProject


def report(table: Path) -> Agreement:
    question = QuestionAgreement(
        name="attitude",
        ordered=True,
        clips=4,
        answers=12,
        alpha=Interval(0.743, 0.4, 0.9),
        ordinal=Interval(0.815),
        ac1=None,
        unanimous=0.75,
        of_class={"positive": 0.9, "neutral": None},
        kappa=(),
        repeated=3,
        repeated_same=2,
    )
    return Agreement(
        clips_sha256=hashlib.sha256(table.read_bytes()).hexdigest(),
        annotators=3,
        votes=12,
        fewest_votes=3,
        stale=0,
        unsure=1,
        tie_rule="adjudicate",
        outcomes={"valid": 4, "invalid": 1, "adjudicate": 0, "waiting": 0},
        adjudicated=1,
        questions=(question,),
        boundaries=BoundaryAgreement(12, 1.25, 2.5, 9, 0.95),
    )


def test_the_card_says_how_well_people_agreed_and_nothing_where_nobody_voted(tmp_path: Path) -> None:
    project, out = ToyProject(tmp_path), tmp_path / "out"
    project.build()
    bare = {name: (out / name).read_bytes() for name in ("README.md", "dataset.json")}
    assert not (out / "agreement.json").exists() and b"## Labels" not in bare["README.md"]

    table, file = tmp_path / "clips.csv", tmp_path / "agreement.json"
    file.write_text(json.dumps(asdict(report(table))))
    project.build()
    card = (out / "README.md").read_text()
    assert (out / "agreement.json").read_bytes() == file.read_bytes()
    for said in ("3 annotators", "rule `adjudicate`", "4 valid, 1 invalid", "0.743 (0.400 to 0.900)", "0.815"):
        assert said in card, said
    assert "undefined" in card and "2 of 3" in card and "at most 9" in card and "was edited" not in card

    table.write_text(table.read_text().replace("left,positive", "left,negative"))
    project.build()
    assert "was edited after the votes were counted" in (out / "README.md").read_text()

    table.write_text(table.read_text().replace("left,negative,p,q,train", "left,positive,p,q,train"))
    file.unlink()
    project.build()
    assert bare == {name: (out / name).read_bytes() for name in bare} and not (out / "agreement.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"annotators": 3}', '{"annotators": "three"}'])
def test_a_report_that_is_none_is_told_before_anything_is_built(tmp_path: Path, content: str) -> None:
    project = ToyProject(tmp_path)
    (tmp_path / "agreement.json").write_text(content)
    with pytest.raises(UserError, match="agreement.json: no report of agreement"):
        project.build()

"""Evaluation of data sets known by construction: perfect, computed by hand, too long, incomplete, of other fitters."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.coefficients import MixedCoefficientsError
from schemas.column import other_role
from schemas.dataset import Predicted
from schemas.errors import UserError
from schemas.score import ALL, REFERENCE_RUN, Score, ScoreSpace
from stages.evaluate.evaluation import Evaluation, Request, evaluate, in_this_process
from stages.evaluate.metrics.definition import Direction, Quantity
from stages.evaluate.metrics.registry import definitions, find_definition
from stages.evaluate.runs import Policy, open_run
from stages.evaluate.scoring import score_all
from tests.labs.predictions import FITTER, LabClip, moving_clip, write_data_set, write_prediction

ELSEWHERE = (Quantity.LANDMARKS, Quantity.IDENTITY)  # what the lab's data sets lack
SEQUENCES = tuple(
    name
    for name, metric in definitions().items()
    if not metric.sees_pictures
    and not any(one.quantity in ELSEWHERE or one.quantity.value.of_samples for one in metric.inputs)
)


def clips() -> list[LabClip]:
    return [
        moving_clip("one", 150, seed=1, attitude="positive"),
        moving_clip("two", 130, seed=2, attitude="negative"),
        moving_clip("three", 125, seed=3, split="ood", attitude=None),
    ]


def shifted(root: Path, by: float) -> Path:
    """A prediction whose coefficients all lie this far from the reference's."""
    return write_prediction(root, clips(), lambda name, values: values + by)


def shortened(root: Path) -> Path:
    return write_prediction(root, clips(), lambda name, values: values[:-5])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data") / "reference", clips())


def run(reference: Path, predicted: Path, *metrics: str, **changes: object) -> tuple[list[Score], Evaluation]:
    """Scores of one prediction."""
    chosen = tuple(find_definition(name) for name in metrics or SEQUENCES)
    runs = (open_run("run", predicted, None),)
    splits = ("test", "ood")
    request = Request(reference=reference, runs=runs, metrics=chosen, splits=splits, policy=Policy(**changes))
    done = evaluate(request, in_this_process)
    found = score_all(done, in_this_process, seed=0)
    return found.scores, replace(done, not_computed={**done.not_computed, **found.undefined})


def value(scores: list[Score], metric: str, split: str = "test", attitude: str = ALL) -> Score:
    wanted = ("run", metric, split, attitude)
    (found,) = [s for s in scores if (s.run, s.key.metric, s.key.split, s.key.attitude) == wanted]
    return found


def test_a_data_set_scored_against_itself_is_perfect(reference: Path) -> None:
    scores, done = run(reference, reference)
    assert not done.not_computed
    own = {(s.key, s.run == REFERENCE_RUN): s.value for s in scores}
    for score in scores:
        metric = find_definition(score.key.metric)
        if metric.perfect is not None:
            assert score.value == pytest.approx(metric.perfect, abs=1e-6), metric.id
        elif metric.direction is Direction.REFERENCE:
            assert own[score.key, True] == pytest.approx(own[score.key, False], abs=1e-9), metric.id
    assert {score.key.metric for score in scores} == set(SEQUENCES)


def test_a_score_is_what_a_hand_computes(tmp_path: Path) -> None:
    made, moved = [], []
    for name, frames, attitude, shift in (("short", 10, "positive", 0.1), ("long", 30, "neutral", 0.5)):
        still = {f"listener_{k}": np.zeros((frames, width)) for k, width in (("angle", 3), ("exp", 64), ("trans", 3))}
        made.append(LabClip(name, frames, attitude=attitude, values=still))
        moved.append(replace(made[-1], values={k: v + shift for k, v in still.items()}))
    root = write_data_set(tmp_path / "reference", made)
    scores, _ = run(root, write_data_set(tmp_path / "moved", moved), "fd_angle_eccv2022", "sts_pose_per_clip")
    angle = value(scores, "fd_angle_eccv2022")
    assert angle.value == pytest.approx(100 * (10 * 0.1 + 30 * 0.5) / 40)  # micro: by frames
    assert (angle.low, angle.high) == (pytest.approx(10), pytest.approx(50))  # two clips: one, the other, or both
    assert (angle.num_clips, angle.num_frames, angle.num_samples, angle.left_out) == (2, 40, 1, 0)
    assert value(scores, "fd_angle_eccv2022", attitude="positive").value == pytest.approx(10)
    assert value(scores, "fd_angle_eccv2022", attitude="neutral").value == pytest.approx(50)
    assert value(scores, "sts_pose_per_clip").value == pytest.approx(0, abs=1e-6)  # a shift changes no motion


def test_a_score_says_all_that_decides_what_it_may_be_compared_with(reference: Path) -> None:
    scores, _ = run(reference, reference, "fd_exp_eccv2022", "blink_rate")
    key = value(scores, "fd_exp_eccv2022").key
    assert (key.data, key.split, key.scale, key.resolution) == ("lab", "test", 100.0, "")
    assert str(key.space) == "lab version 1 with lab_basis (sha256 0123456789ab)"
    assert "all frames" in key.pooling
    assert value(scores, "blink_rate").key.space == ScoreSpace("blink", 1)


def test_several_samples_are_averaged(reference: Path, tmp_path: Path) -> None:
    for sample, shift in enumerate((0.1, 0.3)):
        shifted(tmp_path / f"sample-0{sample}", shift)
    scores, done = run(reference, tmp_path, "fd_angle_eccv2022", "vd_exp_sum")
    assert value(scores, "fd_angle_eccv2022").value == pytest.approx(20, rel=1e-5)
    assert value(scores, "fd_angle_eccv2022").num_samples == 2
    assert value(scores, "fd_angle_eccv2022").num_frames == 280
    assert {row.sample for row in done.runs[0].clip_scores()} == {0, 1}


def test_samples_are_spread_by_what_lies_between_them(reference: Path, tmp_path: Path) -> None:
    for sample, shift in enumerate((-0.3, 0.0, 0.3)):
        shifted(tmp_path / f"sample-0{sample}", shift)
    scores, _ = run(reference, tmp_path, "sample_spread_exp", "sample_spread_pose", "pfd_exp_frechet_per_clip")
    for metric in ("sample_spread_exp", "sample_spread_pose"):
        found = value(scores, metric)
        assert found.value == pytest.approx(np.std([-0.3, 0, 0.3]), rel=1e-5)
        assert (found.num_frames, found.num_samples) == (280, 3)
    scores, done = run(reference, tmp_path / "sample-00", "sample_spread_exp")
    assert not scores and "--samples" in done.not_computed["run", "sample_spread_exp"]


def test_another_length_is_an_error_with_both_lengths(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one: reference 150 frames, predicted 145.*--on-length-mismatch"):
        run(reference, shortened(tmp_path / "short"), "fd_angle_eccv2022")


@pytest.mark.parametrize(("policy", "frames"), [("truncate", 270), ("repeat-last", 280), ("skip", None)])
def test_a_policy_says_what_becomes_of_another_length(
    policy: str, frames: int, reference: Path, tmp_path: Path
) -> None:
    scores, done = run(reference, shortened(tmp_path / "short"), "fd_angle_eccv2022", length=policy)
    if frames is None:
        assert not scores and "policy: skip" in done.runs[0].notes[0]
        return
    found = value(scores, "fd_angle_eccv2022")
    assert found.num_frames == frames
    assert (found.value > 0) == (policy == "repeat-last")
    assert "150 frames, predicted 145" in done.runs[0].notes[0]


def test_a_missing_clip_is_an_error_or_is_listed(reference: Path, tmp_path: Path) -> None:
    part = write_prediction(tmp_path / "part", [c for c in clips() if c.clip_id != "two"], lambda name, values: values)
    with pytest.raises(UserError, match="misses the reference in 1 clips: two; predict them"):
        run(reference, part, "fd_angle_eccv2022")
    scores, done = run(reference, part, "fd_angle_eccv2022", missing="skip")
    assert value(scores, "fd_angle_eccv2022").num_clips == 1 and "two" in done.runs[0].notes[0]


def test_coefficients_of_two_fitters_are_refused(reference: Path, tmp_path: Path) -> None:
    made = replace(FITTER, settings={"fitter": "deep3d"})
    other = write_prediction(tmp_path / "other", clips(), lambda name, values: values, made)
    with pytest.raises(MixedCoefficientsError, match="lab version 1.*deep3d version 1"):
        run(reference, other, "fd_angle_eccv2022")
    scores, _ = run(reference, other, "blink_rate")  # compares no coefficients
    assert scores


def test_a_prediction_that_is_not_finite_is_refused(reference: Path, tmp_path: Path) -> None:
    def broken(name: str, values: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(values))[:, None] == 7, np.nan, values)

    bad = write_prediction(tmp_path / "bad", clips(), broken)
    with pytest.raises(UserError, match="clip one: predicted.angle: 1 of 150 frames are not finite"):
        run(reference, bad, "fd_angle_eccv2022")


def test_frames_without_a_face_in_the_reference_are_left_out_and_counted(tmp_path: Path) -> None:
    seen = moving_clip("one", 50, seed=1)
    holes = np.where(np.arange(50)[:, None] < 4, np.nan, seen.values["listener_angle"])
    root = write_data_set(tmp_path / "reference", [replace(seen, values={**seen.values, "listener_angle": holes})])
    predicted = write_prediction(tmp_path / "run", [seen], lambda name, values: values + 0.25)
    scores, _ = run(root, predicted, "fd_angle_eccv2022", "fd_exp_eccv2022")
    angle = value(scores, "fd_angle_eccv2022")
    assert (angle.num_frames, angle.left_out) == (46, 4) and angle.value == pytest.approx(25, rel=1e-5)
    assert value(scores, "fd_exp_eccv2022").num_frames == 50


def test_what_cannot_be_computed_says_why_and_the_rest_is_computed(reference: Path) -> None:
    wanted = ("fd_angle_eccv2022", "psnr_piq", "lmd_lips_facemesh", "identity_cosine_3dmm")
    scores, done = run(reference, reference, *wanted)
    assert {score.key.metric for score in scores} == {"fd_angle_eccv2022"}
    assert "python -m jobs.render" in done.not_computed["run", "psnr_piq"]
    assert "listener_landmarks" in done.not_computed["run", "lmd_lips_facemesh"]
    assert "listener_identity" in done.not_computed["run", "identity_cosine_3dmm"]


def test_a_clip_too_short_for_a_metric_does_not_count(tmp_path: Path) -> None:
    made = [moving_clip("long", 130, seed=1), moving_clip("short", 40, seed=2)]
    root = write_data_set(tmp_path / "reference", made)
    scores, done = run(root, root, "wtlcc_exp_4s_peak", "fd_exp_eccv2022")
    assert value(scores, "wtlcc_exp_4s_peak").num_clips == 1
    assert [r.value for r in done.runs[0].clip_scores() if r.clip_id == "short" and math.isnan(r.value)]
    short = write_data_set(tmp_path / "short", made[1:])
    _, done = run(short, short, "wtlcc_exp_4s_peak")
    assert "120 frames" in done.not_computed["run", "wtlcc_exp_4s_peak"]


def test_what_wants_several_clips_and_has_one_does_not_blame_the_clips_frames(tmp_path: Path) -> None:
    one = write_data_set(tmp_path / "one", [moving_clip("a", 100, 0)])
    _, done = run(one, one, "frdvs_exp_react")
    assert "one clip alone" in done.not_computed["run", "frdvs_exp_react"]


def test_the_first_frame_counts_for_every_run_or_for_none(reference: Path, tmp_path: Path) -> None:
    """A run that holds the frame it was given has nothing wrong there, and everywhere else .2."""

    def all_but_the_first(name: str, values: np.ndarray) -> np.ndarray:
        return values + np.where(np.arange(len(values)) > 0, 0.2, 0.0)[:, None]

    predicted = write_prediction(tmp_path / "given", clips(), all_but_the_first)
    metrics, frames, films = ("fd_exp_eccv2022", "expfd_frechet_pooled"), 150 + 130, 2
    counted, _ = run(reference, predicted, *metrics)
    assert value(counted, metrics[0]).value == pytest.approx(20 * (frames - films) / frames, rel=1e-4)
    left_out, _ = run(reference, predicted, *metrics, first_frame="leave-out")
    for metric in metrics:
        assert (value(counted, metric).num_frames, value(left_out, metric).num_frames) == (frames, frames - films)
    assert value(left_out, metrics[0]).value == pytest.approx(20, rel=1e-4)
    assert value(left_out, metrics[1]).value == pytest.approx(64 * 0.2**2, rel=1e-3)  # a shift, and nothing else


def test_a_clip_of_which_no_frame_is_left_is_named(tmp_path: Path) -> None:
    short = write_data_set(tmp_path / "short", [moving_clip("blip", 1, seed=1), *clips()])
    with pytest.raises(UserError, match="no frame is left of blip; let the first one count"):
        run(short, short, "fd_exp_eccv2022", first_frame="leave-out")


def test_pairs_of_runs_are_compared_on_the_same_clips(reference: Path, tmp_path: Path) -> None:
    paths = shifted(tmp_path / "near", 0.1), shifted(tmp_path / "far", 0.3)
    runs = tuple(open_run(path.name, path, None) for path in paths)
    metrics = (find_definition("fd_angle_eccv2022"),)
    request = Request(reference=reference, runs=runs, metrics=metrics, splits=("test",))
    found = score_all(evaluate(request, in_this_process), in_this_process, seed=0)
    (difference,) = [d for d in found.differences if d.key.attitude == ALL]
    assert (difference.first, difference.second) == ("near", "far")
    assert difference.value == pytest.approx(-20, rel=1e-4) and difference.decided
    assert difference.high - difference.low < 1e-3  # every clip differs by the same


def test_the_name_of_the_reference_is_taken(reference: Path) -> None:
    with pytest.raises(UserError, match="the name is the reference's own"):
        open_run(REFERENCE_RUN, reference, None)


def test_a_predicted_speaker_is_compared_with_the_speaker_and_stands_on_a_board_of_its_own(tmp_path: Path) -> None:
    """The same numbers with the roles exchanged give the same scores: the other person is the one who listens."""
    told = {
        role: write_data_set(tmp_path / role, made)
        for role, made in {"listener": clips(), "speaker": swapped()}.items()
    }
    near = write_prediction(tmp_path / "near", clips(), lambda name, values: values + 0.1)
    said = [replace(clip, values=exchanged(clip.values)) for clip in moved(0.1)]
    speaking = write_data_set(tmp_path / "speaking", said, predicted=Predicted(listener="x", role="speaker"))
    metrics = tuple(find_definition(name) for name in SEQUENCES)
    found = {}
    for role, predicted in {"listener": near, "speaker": speaking}.items():
        runs = (open_run("run", predicted, None),)
        request = Request(reference=told[role], runs=runs, metrics=metrics, splits=("test", "ood"), role=role)
        scores = score_all(evaluate(request, in_this_process), in_this_process, seed=0).scores
        found[role] = {(s.run, s.key.metric, s.key.split, s.key.attitude): s.value for s in scores}
        assert {score.key.data for score in scores} == {"lab" if role == "listener" else "lab, talking"}
    assert found["speaker"] == pytest.approx(found["listener"]) and len(found["listener"]) > len(SEQUENCES)


def exchanged(values: dict[str, Any]) -> dict[str, Any]:
    """Each person's columns under the other role."""
    names = {name: other_role(name.partition("_")[0]) + "_" + name.partition("_")[2] for name in values}
    return {names[name]: value for name, value in values.items()}


def swapped() -> list[LabClip]:
    return [replace(clip, values=exchanged(clip.values)) for clip in clips()]


def moved(by: float) -> list[LabClip]:
    """The listeners of all clips, as `write_prediction` writes them."""
    own = ("listener_exp", "listener_angle", "listener_trans", "listener_blink")
    return [
        replace(clip, values={n: v + by if n != "listener_blink" else v for n, v in clip.values.items() if n in own})
        for clip in clips()
    ]

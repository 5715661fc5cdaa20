"""All metrics at once: what a definition promises, perfect scores, noise, and inputs that do not fit."""

from __future__ import annotations

import math
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.weights import registry as weights
from stages.evaluate import metrics
from stages.evaluate.metrics import registry
from stages.evaluate.metrics.definition import Clip, Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.registry import definitions, find_definition
from stages.evaluate.metrics.validation import MismatchError
from tests.labs.evaluation import as_inputs, made_up_clip, noisy

LENGTHS = (125, 150)
EVERY = list(definitions().values())
OF_FLOATS = [one for one in EVERY if one.inputs[0].quantity not in (Quantity.BLINK, Quantity.FRAMES)]
COMPARING = [one for one in EVERY if one.direction is not Direction.REFERENCE and len(one.inputs) > 1]

OF_MOTION = ("vd_", "sts_", "rpcc_", "tlcc_", "wtlcc_", "diversity_", "sample_spread_", "frdiv_", "frdvs_", "frvar_")
POWERS = (  # of ids: how a metric grows when all numbers grow
    *((name, 2) for name in ("*_squared", "*frechet*", "vd_*", "fid_*", "mse_*", "frdiv_*", "frdvs_*", "frvar_*")),
    *(
        (name, 1)
        for name in (
            "*fd_*",
            "frdist_*",
            "*l1_20*",
            "sts_*",
            "diversity_*",
            "sample_spread_*",
            "lmd_*",
            "av_confidence_*",
        )
    ),
    *(
        (name, 0)
        for name in ("frcorr_*", "sid_*", "rpcc_*", "tlcc_*", "wtlcc_*", "csim_*", "identity_cosine_*", "av_offset_*")
    ),
)


def data_set(seed: int, level: float = 0.0) -> list[Clip]:
    """Clips whose predictions are the references with noise of this level."""
    rng = np.random.default_rng(seed)
    clips = []
    for length in LENGTHS:
        reference, speaker = made_up_clip(rng, length), made_up_clip(rng, length)
        clips.append(as_inputs(noisy(reference, rng, level) if level else reference, reference, speaker))
    return clips


@pytest.fixture(scope="module")
def itself() -> list[Clip]:
    return data_set(0)


@pytest.fixture(scope="module")
def worse_and_worse() -> list[list[Clip]]:
    return [data_set(0, level) for level in (0.05, 0.2, 0.8)]


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.id)
def test_a_data_set_against_itself_is_perfect(metric: Definition, itself: list[Clip]) -> None:
    found = metric.score(itself)
    expected = metric.of_reference().score(itself) if metric.perfect is None else metric.perfect
    assert math.isfinite(found) and found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", COMPARING, ids=lambda metric: metric.id)
def test_the_more_noise_the_worse(metric: Definition, itself: list[Clip], worse_and_worse: list[list[Clip]]) -> None:
    values = [metric.score(clips) for clips in (itself, *worse_and_worse)]
    sign = 1 if metric.direction is Direction.LOWER else -1
    if metric.id.startswith("rpcc"):
        assert values[-1] > values[0]  # noise moves r by little, and up or down
    else:
        assert all(later * sign > earlier * sign for earlier, later in zip(values, values[1:], strict=False)), values


def test_a_shift_makes_distances_worse_and_leaves_motion_alone(itself: list[Clip]) -> None:
    for metric in OF_FLOATS:
        name = metric.inputs[0]
        moved = [[{**clip, name: clip[name] + shift} for clip in itself] for shift in (0.0, 0.5, 4.0)]
        values = [metric.score(clips) for clips in moved]
        if metric.id.startswith(OF_MOTION):
            assert values == pytest.approx([values[0]] * 3, rel=1e-6, abs=1e-7), metric.id
        elif metric in COMPARING and metric.id != "csim_arcface_all_pairs":  # pairs of other frames: not perfect at 0
            sign = 1 if metric.direction is Direction.LOWER else -1
            assert sign * values[0] < sign * values[1] < sign * values[2], metric.id


def test_every_metric_scales_with_a_known_power_of_its_numbers(itself: list[Clip]) -> None:
    clips = data_set(0, 0.2)
    twice = [{name: 2 * values if values.dtype.kind == "f" else values for name, values in c.items()} for c in clips]
    for metric in OF_FLOATS:
        power = next((power for start, power in POWERS if fnmatchcase(metric.id, start)), None)
        assert power is not None, f"{metric.id}: say in POWERS how it scales"
        assert metric.score(twice) == pytest.approx(2**power * metric.score(clips), rel=1e-4), metric.id


@pytest.mark.parametrize("metric", COMPARING, ids=lambda metric: metric.id)
def test_arrays_of_other_lengths_are_refused_with_both(metric: Definition, itself: list[Clip]) -> None:
    cut = [{**clip, metric.inputs[0]: clip[metric.inputs[0]][:-3]} for clip in itself]
    with pytest.raises(MismatchError, match=f"{LENGTHS[0]}.*{LENGTHS[0] - 3}"):
        metric.score(cut)


@pytest.mark.parametrize("metric", OF_FLOATS, ids=lambda metric: metric.id)
def test_a_frame_without_numbers_is_refused(metric: Definition, itself: list[Clip]) -> None:
    name = metric.inputs[0]
    spoiled = itself[0][name].copy()
    spoiled[7] = np.nan
    with pytest.raises(ValueError, match=f"1 of {LENGTHS[0]} frames"):
        metric.score([{**itself[0], name: spoiled}, *itself[1:]])


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.id)
def test_a_definition_leaves_nothing_open(metric: Definition) -> None:
    assert metric.name and metric.formula and metric.source and metric.min_frames >= 1
    networks = {one.quantity.value.network for one in metric.inputs}
    assert networks == {metric.weights}
    assert not metric.weights or metric.weights in weights()


def test_no_metric_of_ours_is_printed_under_a_published_name() -> None:
    published = {metric.name for metric in EVERY if metric.published_as}
    assert not published & {metric.name for metric in EVERY if not metric.published_as}
    assert len({metric.name for metric in EVERY}) == len(EVERY)


def test_a_metric_is_one_entry_in_any_file_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (registry.FOLDER / "lip_distance.py").read_text(encoding="utf-8")
    (tmp_path / "zygoma.py").write_text(source.replace("lmd_lips_facemesh", "chin_facemesh"), encoding="utf-8")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    try:
        definitions.cache_clear()
        assert list(definitions()) == [*(one.id for one in EVERY), "chin_facemesh"]
    finally:
        definitions.cache_clear()


def test_an_unknown_id_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="fd_exp_eccv2022"):
        find_definition("fd")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 400)), min_size=1, max_size=8))
def test_frames_weigh_clips_by_length_and_clips_do_not(clips: list[tuple[float, int]]) -> None:
    values, frames = [value for value, _ in clips], [count for _, count in clips]
    micro, macro = (replace(EVERY[0], pooling=pooling) for pooling in (Pooling.FRAMES, Pooling.CLIPS))
    every_frame = np.repeat(values, frames)
    assert micro.pool(values, frames) == pytest.approx(every_frame.mean(), abs=1e-9)
    assert macro.pool(values, frames) == pytest.approx(np.mean(values), abs=1e-9)


def test_the_micro_average_of_a_distance_is_the_distance_of_all_frames(itself: list[Clip]) -> None:
    metric = definitions()["fd_exp_eccv2022"]
    clips = data_set(3, 0.5)
    apart = np.concatenate([clip[Quantity.EXP.predicted] - clip[Quantity.EXP.reference] for clip in clips])
    assert metric.score(clips) == pytest.approx(100 * np.abs(apart).mean())


def test_a_clip_that_is_too_short_does_not_count() -> None:
    metric = definitions()["wtlcc_exp_4s_peak"]
    clips = data_set(4)
    short = {name: values[: metric.min_frames - 1] for name, values in clips[0].items()}
    assert math.isnan(metric.clip_score(short))
    assert metric.score([short, clips[1]]) == metric.score(clips[1:])
    assert math.isnan(metric.score([short]))


def test_a_bootstrap_may_draw_clips_of_any_lengths_for_every_metric_of_the_whole_data_set(itself: list[Clip]) -> None:
    for metric in EVERY:
        if metric.pooling is Pooling.DATA_SET:
            assert metric.score_drawn(itself, range(len(itself))) == metric.score(itself), metric.id
            assert math.isfinite(metric.score_drawn(itself, [1, 1, 0])), metric.id


def test_a_metric_of_the_whole_data_set_has_no_value_of_a_clip(itself: list[Clip]) -> None:
    with pytest.raises(ValueError, match="fid_exact: one value of all clips"):
        definitions()["fid_exact"].clip_score(itself[0])

"""Windows, masks, z-scores and the order of an epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.dataset.read import read_clips
from stages.train.corpus import STD_FLOOR, ClipFrames, Corpus, open_corpus, scores_of
from stages.train.inputs import Inputs, inputs_of
from stages.train.listener import TrainingSettings
from stages.train.windows import Windows, cut, epoch_batches, training_windows, whole_clips
from tests.labs.trainer import changed

SETTINGS = TrainingSettings(window_frames=40, stride_frames=15, min_frames=12)
ATTITUDES = ("positive", "neutral", "negative")
EXTRA = ("listener_blink", "listener_identity", "token_embedding")


@pytest.fixture(scope="module")
def inputs(root: Path) -> Inputs:
    return inputs_of([root], "paper70", EXTRA)


@pytest.fixture(scope="module")
def corpus(root: Path, inputs: Inputs) -> Corpus:
    return opened(root, inputs)


def opened(root: Path, inputs: Inputs, folder: Path | None = None) -> Corpus:
    return open_corpus([root], inputs, ("train",), folder)


def windows_of(corpus: Corpus, settings: TrainingSettings = SETTINGS, choose: Any = training_windows) -> Windows:
    return choose(corpus, corpus.clips, scores_of(corpus, corpus.clips), ATTITUDES, settings)


def spans(frames: int, settings: TrainingSettings) -> list[list[int]]:
    return [span for _, *span in cut(ClipFrames("a", "b", "neutral", "train", 0, frames, 0), settings)]


def test_windows_of_the_released_baseline_begin_in_every_frame_and_end_with_tails_of_30() -> None:
    released = TrainingSettings(window_frames=90, stride_frames=1, min_frames=30)
    assert spans(100, released) == [[start, min(90, 100 - start)] for start in range(71)]


def test_a_clip_that_is_no_longer_than_a_window_stays_whole() -> None:
    assert spans(40, SETTINGS) == [[0, 40]] and spans(5, SETTINGS) == [[0, 5]]


def test_every_window_of_an_epoch_comes_once_in_an_order_that_seed_and_epoch_decide() -> None:
    asked = ((SETTINGS, 0), (SETTINGS, 0), (SETTINGS, 1), (TrainingSettings(seed=1), 0))
    first, again, second, other = (np.concatenate(list(epoch_batches(100, *how))) for how in asked)
    assert sorted(first) == sorted(second) == list(range(100))
    assert (first == again).all() and (first != second).any() and (first != other).any()


def test_random_windows_are_as_many_and_lie_anywhere_in_their_clips_as_seed_and_epoch_decide(corpus: Corpus) -> None:
    grid, random = windows_of(corpus), windows_of(corpus, replace(SETTINGS, windows="random"))
    assert np.bincount(random.place).tolist() == np.bincount(grid.place).tolist()
    drawn = [random.of_epoch(0, epoch) for epoch in range(60)]
    assert (drawn[3].first == random.of_epoch(0, 3).first).all() and (drawn[3].first != drawn[4].first).any()
    assert (drawn[3].first != random.of_epoch(1, 3).first).any() and (grid.of_epoch(0, 3).first == grid.first).all()
    clips = [corpus.clips[place] for place in random.place]
    begins = np.array([[w - clip.first for w, clip in zip(one.first, clips, strict=True)] for one in drawn])
    latest = np.array([max(clip.num_frames - 40, 0) for clip in clips])
    assert (random.frames == [min(40, clip.num_frames) for clip in clips]).all()
    assert (begins >= 0).all() and (begins <= latest).all()
    short = latest < 15  # all their frames are begun in, in 60 draws
    assert (begins.min(axis=0) == 0)[short].all() and (begins.max(axis=0) == latest)[short].all()


def test_a_batch_holds_the_columns_of_the_shards(root: Path, corpus: Corpus) -> None:
    windows = windows_of(corpus)
    row = next(r for r in read_clips(root, ["listener_exp", "listener_angle", "listener_trans", *EXTRA, "frame_token"]))
    raw = np.concatenate([row["listener_exp"], row["listener_angle"], row["listener_trans"]], axis=1)
    first = list(windows.place).index([c.clip_id for c in corpus.clips].index(row["clip_id"]))
    batch = windows.batch(np.array([first + 1]))
    frames = slice(15, 15 + int(batch.mask.sum()))  # the second window of the clip
    np.testing.assert_allclose(windows.scores.motion.from_z(batch.listener)[0], raw[frames], atol=1e-5)
    assert torch.equal(batch.reference[0], batch.listener[0, 0])
    assert (batch.extra["listener_blink"][0].numpy() == row["listener_blink"][frames]).all()
    assert (batch.extra["listener_identity"][0].numpy() == row["listener_identity"]).all()
    spoken = row["token_embedding"][row["frame_token"][frames]]
    np.testing.assert_array_equal(batch.extra["token_embedding"][0].numpy(), spoken.astype(np.float32))


def test_padding_is_zeros_that_the_mask_leaves_out(corpus: Corpus) -> None:
    windows = windows_of(corpus)
    short, long = int(windows.frames.argmin()), int(windows.frames.argmax())
    batch, alone = windows.batch(np.array([short, long])), windows.batch(np.array([short]))
    frames = int(windows.frames[short])
    assert frames < batch.mask.shape[1] == windows.frames[long]
    for name in ("speaker", "listener", "audio"):
        assert torch.equal(getattr(batch, name)[:1, :frames], getattr(alone, name))
        assert not getattr(batch, name)[0, frames:].any()
    assert batch.mask[0].tolist() == [True] * frames + [False] * (batch.mask.shape[1] - frames)


def test_frames_without_valid_coefficients_are_masked_and_no_nan_gets_through(
    root: Path, inputs: Inputs, tmp_path: Path
) -> None:
    def few(valid: list[bool]) -> list[bool]:
        return [False] * 3 + valid[3:20] + [False] * (len(valid) - 20)

    nothing = changed(root, tmp_path / "nan", "listener_exp", lambda rows: [[np.nan] * 64] * 3 + rows[3:])
    corpus = opened(changed(nothing, tmp_path / "holes", "listener_coeffs_valid", few), inputs)
    batch = windows_of(corpus, TrainingSettings(window_frames=1000)).batch(np.array([0]))
    assert batch.mask[0].nonzero().flatten().tolist() == list(range(3, 20))
    assert all(torch.isfinite(getattr(batch, name)).all() for name in ("speaker", "listener", "audio", "reference"))
    assert torch.equal(batch.reference[0], batch.listener[0, 3])  # the first frame that is known


def test_windows_without_a_valid_frame_are_left_out(root: Path, inputs: Inputs, tmp_path: Path) -> None:
    def early(valid: list[bool]) -> list[bool]:
        return valid[:20] + [False] * (len(valid) - 20)

    corpus = opened(changed(root, tmp_path / "late", "speaker_coeffs_valid", early), inputs)
    windows, clips = windows_of(corpus), np.array([clip.first for clip in corpus.clips])
    assert set(windows.first - clips[windows.place]) == {0, 15}


def test_a_neutral_start_is_zeros_instead_of_the_first_frame(corpus: Corpus) -> None:
    neutral = windows_of(corpus, TrainingSettings(start="neutral")).batch(np.arange(4))
    assert not neutral.reference.any() and neutral.listener[:, 0].any()


def test_mapped_files_give_the_same_batches_as_memory(
    root: Path, inputs: Inputs, corpus: Corpus, tmp_path: Path
) -> None:
    mapped = opened(root, inputs, tmp_path / "frames")
    assert all(isinstance(array, np.memmap) for array in mapped.arrays.values())
    one, two = (windows_of(c).batch(np.arange(5)) for c in (corpus, mapped))
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in ("speaker", "listener", "audio", "mask"))


def test_withdrawn_clips_are_not_read(root: Path, inputs: Inputs, corpus: Corpus, tmp_path: Path) -> None:
    gone = changed(root, tmp_path / "gone", "listener_exp", lambda rows: rows)
    (gone / "takedown.txt").write_text(f"{corpus.clips[0].person_id}\n")
    left = opened(gone, inputs).clips
    assert 0 < len(left) < len(corpus.clips)
    assert corpus.clips[0].person_id not in {clip.person_id for clip in left}


def test_z_scores_of_the_training_clips_have_mean_0_and_deviation_1_for_both_people_together(corpus: Corpus) -> None:
    batch = windows_of(corpus, SETTINGS, whole_clips).batch(np.arange(len(corpus.clips)))
    both = torch.cat([batch.speaker[batch.mask], batch.listener[batch.mask]]).double()
    torch.testing.assert_close(both.mean(dim=0), torch.zeros(70).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(both.std(dim=0), torch.ones(70).double(), atol=1e-4, rtol=0)


def test_rounding_noise_is_not_blown_up(root: Path, inputs: Inputs, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def quiet(rows: list[list[float]]) -> list[list[float]]:
        return [[*row[:14], *rng.normal(scale=8e-7, size=31).tolist()] for row in rows]

    noisy = changed(root, tmp_path / "noisy", "acoustic", quiet)
    audio = windows_of(opened(noisy, inputs)).batch(np.arange(5)).audio
    assert audio[..., 14:].abs().max() < 8e-7 / STD_FLOOR * 6
    assert audio[..., :14].std() > 0.5

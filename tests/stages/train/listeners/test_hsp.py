"""Listener hsp: contrast of text and sound, frames given and predicted, padding, both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from stages.train.layers.sequence import inside
from stages.train.listeners.hsp import Hsp, Settings
from tests.labs.listeners import SIZES, longer, only, random_batch, speaker_changed_from

SMALL = {"audio_width": 4, "width": 16, "hidden": 12, "dropout": 0.0}


def listener(**settings: object) -> Hsp:
    torch.manual_seed(0)
    return Hsp(Settings(**{**SMALL, **settings}), SIZES)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_first_frame_is_the_given_one_and_the_next_answer_the_frames_before() -> None:
    model, batch = listener().eval(), random_batch((30, 30))
    motion = model.predict(batch, draws()).motion
    assert torch.equal(motion[:, 0], batch.reference)
    assert motion.shape == (2, 30, 70)


def test_it_looks_ahead_and_says_so() -> None:
    model, batch = listener().eval(), random_batch((40, 40))
    before, after = (model.predict(b, draws()).motion for b in (batch, speaker_changed_from(batch, 25)))
    assert not Hsp.causal and not torch.allclose(before[:, 1:25], after[:, 1:25])


@torch.no_grad()
def test_the_contrast_is_equation_2() -> None:
    """Against a plain loop over texts, levels and time stamps."""
    model, batch = listener(contrast_frames=1000).eval(), random_batch((12, 9))
    levels = model.hear(batch.audio, inside(batch.mask))
    words = batch.extra["token_embedding"]
    spoken = [tuple(place) for place in (batch.mask & words.ne(0).any(dim=-1)).nonzero().tolist()]

    def similar(text: tuple[int, int], level: int, sound: tuple[int, int]) -> torch.Tensor:
        heard = model.align[level](levels[level][sound])
        return (functional.cosine_similarity(model.text(words[text]), heard, dim=0) / 0.07).exp()

    losses = []
    for place in spoken:
        everything = sum(similar(place, level, other) for level in range(3) for other in spoken)
        losses.append(-(similar(place, 2, place) / everything).log())
    expected = float(sum(losses)) / len(spoken)
    assert float(model._contrast(batch, levels, draws())) == pytest.approx(expected, rel=1e-4)


def test_the_contrast_draws_high_level_sound_towards_its_words() -> None:
    model, batch, losses = listener().train(), random_batch((20, 20)), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        loss = model(batch, draws())["contrast"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_a_clip_without_words_has_no_contrast_and_still_gradients() -> None:
    model, batch = listener(), random_batch()
    silent = replace(batch, extra={"token_embedding": torch.zeros_like(batch.extra["token_embedding"])})
    terms = model(silent, draws())
    assert float(terms["contrast"].detach()) == 0
    sum(terms.values()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@torch.no_grad()
def test_padding_changes_no_loss_and_no_prediction() -> None:
    model, batch = listener().train(), random_batch()
    alone, padded = ({name: float(v) for name, v in model(b, draws()).items()} for b in (batch, longer(batch, 9)))
    assert {**alone, "contrast": 0} == pytest.approx({**padded, "contrast": 0}, rel=1e-4)  # other frames are drawn
    model.eval()
    motion = model.predict(batch, draws()).motion
    for clip, frames in enumerate((50, 41, 30)):
        alone_motion = model.predict(only(batch, clip, frames), draws()).motion
        assert torch.allclose(motion[clip, :frames], alone_motion[0], atol=1e-5)


def test_the_preset_paper_does_not_hear_the_attitude() -> None:
    batch = random_batch()
    other = replace(batch, attitude=(batch.attitude + 1) % 3)
    for settings, same in ((Hsp.presets["paper"], True), ({}, False)):
        model = listener(**settings).eval()
        assert torch.equal(model.predict(batch, draws()).motion, model.predict(other, draws()).motion) == same

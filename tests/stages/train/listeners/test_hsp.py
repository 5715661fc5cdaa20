"""Listener hsp: contrast of text and sound, frames given and predicted, padding, both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from schemas.errors import UserError
from stages.spectrogram import ROWS
from stages.train.listeners import hsp
from stages.train.sequence import inside
from tests.labs.listeners import BANDS, longer, random_batch
from tests.stages.train.conftest import draws, reaches, small, weights

ENCODED = {"hear", "align", "text", "fuse_audio"}


@torch.no_grad()
def test_the_contrast_is_equation_2() -> None:
    """Against a plain loop over texts, levels and time stamps."""
    model, batch = small("hsp", contrast_frames=1000), random_batch((12, 9))
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
    model, batch, losses = small("hsp").train(), random_batch((20, 20)), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        loss = model(batch, draws())["contrast"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_a_clip_without_words_has_no_contrast_and_still_gradients() -> None:
    model, batch = small("hsp").train(), random_batch()
    silent = replace(batch, extra={"token_embedding": torch.zeros_like(batch.extra["token_embedding"])})
    terms = model(silent, draws())
    assert float(terms["contrast"].detach()) == 0
    sum(terms.values()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize(
    ("settings", "gone", "unheard", "reads"),
    [
        ({}, set(), set(), ("token_embedding",)),
        ({"text_encoder": False}, {"align", "text"}, {"words"}, ()),
        ({"visual_encoder": False}, set(), {"face"}, ("token_embedding",)),
        ({"audio_encoder": "baseline"}, ENCODED, {"words"}, ()),
        ({"audio_encoder": "none"}, ENCODED, {"words", "cepstrum", "rest of the sound"}, ()),
    ],
)
def test_an_encoder_that_is_left_out_is_gone(
    settings: dict[str, object], gone: set[str], unheard: set[str], reads: tuple[str, ...]
) -> None:
    """Its weights, its loss, the columns it reads, and the influence of what it alone is given."""
    whole, model, batch = small("hsp"), small("hsp", **settings), random_batch()
    assert weights(whole) - weights(model) == gone
    assert model.reads(model.settings) == reads
    cepstrum, rest = (torch.arange(45) < 42) * 1.0, (torch.arange(45) >= 42) * 1.0
    changed = {
        "words": {"extra": {"token_embedding": -batch.extra["token_embedding"]}},
        "face": {"speaker": -batch.speaker},
        "cepstrum": {"audio": batch.audio * (1 - 2 * cepstrum)},
        "rest of the sound": {"audio": batch.audio * (1 - 2 * rest)},
    }
    assert {name for name, change in changed.items() if not reaches(model, batch, **change)} == unheard
    lost = {"contrast"} if "text" in gone else set()
    terms = model.train()(batch, draws())
    assert whole.train()(batch, draws()).keys() - terms.keys() == lost
    sum(terms.values()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_listener_that_is_given_nothing_of_the_speaker_is_refused() -> None:
    with pytest.raises(UserError, match="neither sees nor hears"):
        small("hsp", audio_encoder="none", visual_encoder=False)


@torch.no_grad()
def test_the_paper_s_gru_says_the_coefficients_and_is_told_the_first_frame_once() -> None:
    """A GRU of zeros says the last layer's bias: coefficients, or what is added to the first frame."""
    batch = random_batch()
    for preset, added in (("", True), ("paper", False)):
        model = small("hsp", preset)
        assert len(model.fuse) == (4 if added else 3)
        for weight in [*model.gru.parameters(), *model.start.parameters()]:
            torch.nn.init.zeros_(weight)
        torch.nn.init.constant_(model.last.bias, 0.25)
        torch.nn.init.zeros_(model.last.weight)
        later = model.predict(batch, draws()).motion[:, 1:]
        expected = (batch.reference[:, None] if added else 0 * batch.reference[:, None]) + 0.25
        assert torch.allclose(later, expected.expand_as(later), atol=1e-6)
    told, untold = small("hsp", "paper"), small("hsp", "paper")
    for weight in untold.start.parameters():
        torch.nn.init.zeros_(weight)
    said = [model.predict(replace(batch, reference=r), draws()).motion[:, 1:] for model in (told, untold)
            for r in (batch.reference, -batch.reference)]  # fmt: skip
    assert not torch.allclose(said[0], said[1]) and torch.equal(said[2], said[3])


@torch.no_grad()
def test_a_resnet_of_spectrograms_hears_all_rows_of_a_frame_and_the_cepstrum_beside_them() -> None:
    assert hsp.ROWS == ROWS
    model, batch = small("hsp", "paper"), random_batch()
    assert model.reads(model.settings) == ("token_embedding", "log_mel")
    assert [level.shape[:2] for level in model._levels(batch)] == [batch.mask.shape] * 3
    for row in range(ROWS):
        one = (torch.arange(ROWS) == row)[:, None]
        assert reaches(model, batch, extra={"log_mel": batch.extra["log_mel"] * ~one})
    rest = batch.audio * (torch.arange(45) < 42)
    assert not reaches(model, batch, audio=rest) and reaches(small("hsp"), batch, audio=rest)
    louder = {"log_mel": batch.extra["log_mel"] * 2 + torch.arange(BANDS)}  # every band is normalised over the clip
    once, again = (model.predict(b, draws()).motion for b in (batch, replace(batch, extra={**batch.extra, **louder})))
    assert torch.allclose(once, again, atol=1e-3)
    assert torch.allclose(once, model.predict(longer(batch, 20), draws()).motion[:, : once.shape[1]], atol=1e-4)


def test_a_row_is_heard_in_its_own_frame_and_those_beside_it() -> None:
    """What the strides along time must keep: output frame k stands for the rows of frame k."""
    network = hsp.SEResNet34(4, ROWS).eval()
    rows = torch.randn(1, 60 * ROWS, BANDS, generator=draws(), requires_grad=True)
    stem, first, second = network.stem, network.stages[0], network.stages[1]
    mask = torch.ones(1, 60, dtype=torch.bool)
    joined = second[0].first(rows.transpose(1, 2)[:, None].expand(-1, 4, -1, -1))  # of stage 2, alone
    joined[..., 20].sum().backward()
    heard = rows.grad[0].abs().sum(dim=1).nonzero().squeeze(1).tolist()
    assert heard == [60, 61, 62] and stem is not first and network(rows, mask)[0].shape[:2] == (1, 60)

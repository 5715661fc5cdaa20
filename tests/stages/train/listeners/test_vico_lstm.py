"""``vico_lstm`` is the published one: its size, what its output predicts, its loss, its schedule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.coefficients import Layout
from stages.train.listener import Sizes
from tests.labs.trainer import SIZES, listener, random_batch

SIZES73 = Sizes(Layout("baseline73"), 45, 3)
RANDOM = torch.Generator()


def test_the_released_configuration_has_248449_parameters() -> None:
    assert sum(p.numel() for p in listener("vico_lstm", SIZES73, "code").parameters()) == 248_449


def test_the_output_at_t_predicts_frame_t_plus_1() -> None:
    """What the speaker does in frame 20 is first seen in the listener's frame 21, and frame 0 is the reference."""
    model, batch = listener("vico_lstm", SIZES73, "code"), random_batch(SIZES73)
    speaker = batch.speaker.clone()
    speaker[:, 20] += 1
    before, after = (model.predict(b, RANDOM).motion for b in (batch, replace(batch, speaker=speaker)))
    differs = (before != after).any(dim=-1).any(dim=0)
    assert int(differs.nonzero()[0]) == 21
    assert torch.equal(before[:, 0], batch.reference)


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_the_loss_is_that_of_equations_4_to_6_over_frames_that_count(preset: str) -> None:
    sizes = SIZES73 if preset == "code" else SIZES
    model, batch = listener("vico_lstm", sizes, preset), random_batch(sizes, clips=3)
    mask = batch.mask.clone()
    mask[0, 31:] = mask[1, 12] = False
    found = {name: float(term.detach()) for name, term in model(replace(batch, mask=mask), RANDOM).items()}
    error = (model.predict(batch, RANDOM).motion - batch.listener).detach().double().numpy()
    parts = sizes.motion.split(error)
    weights = {"exp": 0.001, "angle": 1.0, "trans": 1.0, "crop": 1.0}
    if preset == "paper":
        parts = {"exp": parts["exp"], "pose": np.concatenate([parts["angle"], parts["trans"]], axis=-1)}
        weights = {"exp": 0.1, "pose": 1e-4}
    counted = [(i, t) for i in range(3) for t in range(1, 50) if mask[i, t]]
    expected = {}
    for name, part in parts.items():
        norms = [np.sqrt((part[i, t] ** 2).sum()) for i, t in counted]
        before = [*counted, *([(i, 0) for i in range(3)] if preset == "paper" else [])]  # m1 -> m2 of eq. 5
        steps = [np.sqrt(((part[i, t] - part[i, t - 1]) ** 2).sum()) for i, t in counted if (i, t - 1) in before]
        expected |= {name: np.mean(norms), f"{name}_step": weights[name] * np.mean(steps)}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("inputs", "heard"), [("both", (True, True)), ("audio", (True, False)), ("visual", (False, True))]
)
def test_a_signal_that_table_5_leaves_out_has_neither_weights_nor_influence(
    inputs: str, heard: tuple[bool, bool]
) -> None:
    model, batch = listener("vico_lstm", inputs=inputs), random_batch()
    plain = model.predict(batch, RANDOM).motion
    for signal, wanted in zip(("audio", "speaker"), heard, strict=True):
        other = replace(batch, **{signal: torch.randn_like(getattr(batch, signal))})
        assert torch.equal(model.predict(other, RANDOM).motion, plain) != wanted, signal
    left_out = 45 * (not heard[0]) + 70 * (not heard[1])
    assert sum(p.numel() for p in model.parameters()) == 246_196 - left_out * (2 + 192)  # normalisation, linear layer


def test_the_attitude_and_the_reference_enter_the_initial_state() -> None:
    for sizes, preset, heard in ((SIZES, "paper", True), (SIZES73, "code", False)):
        model, batch = listener("vico_lstm", sizes, preset), random_batch(sizes)
        relabelled = replace(batch, attitude=(batch.attitude + 1) % 3)
        shown = replace(batch, reference=batch.reference + 1)
        plain, other, moved = (model.predict(b, RANDOM).motion[:, 1] for b in (batch, relabelled, shown))
        assert torch.equal(other, plain) != heard and not torch.equal(moved, plain)


@pytest.mark.parametrize(("preset", "decay"), [("paper", 0.8), ("code", 0.5)])
def test_the_learning_rate_falls_every_30_epochs(preset: str, decay: float) -> None:
    model = listener("vico_lstm", SIZES73 if preset == "code" else SIZES, preset)
    assert [model.learning_rate_factor(epoch, 300) for epoch in (0, 29.9, 30, 89.9)] == [1, 1, decay, decay**2]

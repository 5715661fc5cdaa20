"""Stage ``turns``: two voices, of which it is known when they speak."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.demo.conversation import SCENES
from jobs.demo.sound import render
from pipeline.clip import Clip
from pipeline.clock import SAMPLE_RATE_HZ, Span, frames_in
from pipeline.media.encode import write_wav
from schemas.column import ROLES
from stages.turns import Turns

CALL = SCENES[1]


def test_whose_turn_it_is_follows_the_scores_and_begins_and_ends_with_the_voice(tmp_path: Path) -> None:
    span = Span(CALL.turns[0].span.start_s, CALL.turns[1].span.end_s)
    track = render(CALL.syllables, [], float(CALL.duration_s), SAMPLE_RATE_HZ, CALL.seed)
    first = round(span.start_s * SAMPLE_RATE_HZ)
    write_wav(tmp_path / "audio.wav", track[first : first + span.num_samples])
    change = round(frames_in(CALL.turns[1].span.start_s - span.start_s))
    scores = np.where(np.arange(span.num_frames) < change, 3.0, -3.0).astype(np.float32)
    values: dict[str, object] = {"clip_id": "call_0_7", "audio": "audio.wav"}
    for role, sign in zip(ROLES, (1, -1), strict=True):
        values |= {f"{role}_speaking": sign * scores, f"{role}_landmarks_valid": np.ones(span.num_frames, bool)}
    stage = Turns()
    stage.setup("cpu")
    found = stage.process(Clip(values, span, tmp_path, tmp_path, tmp_path))["turns"]
    assert found[:, 2].tolist() == [0, 1]  # the speaker, then the listener
    for (start, end, _), turn in zip(found, CALL.turns[:2], strict=True):
        heard = [s for s in CALL.syllables if turn.span.start_s <= s.start_s < turn.span.end_s]
        known = [frames_in(time_s - float(span.start_s)) for time_s in (heard[0].start_s, heard[-1].end_s)]
        assert np.abs(np.subtract((start, end), known)).max() < frames_in(0.25)

"""Stage ``sounds``: each person's own sound, where the manifest names a channel or a file of it.

A channel is on the clip's clock. A file of another recorder is not: it is laid over the sound of both where the two
agree best, `stages.acoustics.alignment`, with a confidence; one that agrees nowhere belongs to another conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import SAMPLE_RATE_HZ, Span
from pipeline.media.encode import level_dbfs, write_wav
from pipeline.media.reader import MEDIA_REASONS, MediaError, SourceReader
from pipeline.stage import Reject, Stage, setting
from schemas.column import ROLES, Column, per_role
from stages.acoustics import alignment

CHANNELS = 2


class OwnSounds(Stage):
    """The sound of each person alone, on the clip's clock."""

    @dataclass(frozen=True)
    class Settings:
        least_confidence: float = setting(0.5, "confidence from which a file of another recorder belongs to the clip")
        max_shift_s: float = setting(10.0, "how much earlier or later it may have begun than the sound of both")
        around_s: float = setting(30.0, "how much before and after the clip is compared too: listeners say little")
        max_missing_s: float = setting(0.25, "how much of the clip a person's file may leave out at either end")
        most_alike: float = setting(
            0.999, "square of the correlation of the two people's samples above which both are one and the same sound"
        )
        silence_dbfs: float = setting(-60.0, "mean level below which a person is not to be heard")

    opt_in = True
    reads = ("source", "audio", "speaker_side")
    writes = per_role(
        Column(
            "{role}_audio", "string", (), "", "the {role}'s own sound: 44.1 kHz, 16-bit PCM, one channel", media=True
        ),
        Column("{role}_audio_level_dbfs", "float32", (), "dBFS", "mean level of the {role}'s own sound"),
        Column("{role}_audio_shift_s", "float32", (), "s", "time in the {role}'s file less time in the sound of both"),
        Column(
            "{role}_audio_confidence", "float32", (), "1",
            "how far that can be trusted, 0 to 1: 1 - next / peak of the correlation; none where nothing was shifted",
        ),
    )  # fmt: skip
    rejects = MEDIA_REASONS | {
        "not_two_channels": "its sound has one channel, or more than two, where each person should have one",
        "sounds_alike": "both people's sounds are one and the same",
        "speaker_silent": "the speaker's own sound is silent: mean level below silence_dbfs",
        "sounds_do_not_match": "a person's file agrees with the sound of both nowhere: confidence below the least",
        "sound_too_short": "a person's file begins after the clip or ends before it by more than max_missing_s",
    }

    def process(self, clip: Clip) -> dict[str, Any]:
        if clip.sounds is None or clip["audio"] is None:
            return dict.fromkeys(column.name for column in self.writes())
        try:
            found = {role: self._own(clip, role) for role in ROLES}
        except MediaError as error:
            raise Reject(error.reason, error.detail) from error
        self._check(*(samples for samples, _ in found.values()))
        columns: dict[str, Any] = {}
        for role, (samples, shift) in found.items():
            file = clip.output(f"{role}.wav")
            write_wav(file, samples)
            told = (file, level_dbfs(samples), *((shift.seconds, shift.confidence) if shift else (None, None)))
            names = ("audio", "audio_level_dbfs", "audio_shift_s", "audio_confidence")
            columns |= {f"{role}_{name}": value for name, value in zip(names, told, strict=True)}
        return columns

    def _own(self, clip: Clip, role: str) -> tuple[NDArray[np.float32], alignment.Shift | None]:
        """A person's samples on the clip's clock, and by how much they were shifted, if they were."""
        reader, channel = clip.own_sound(role)
        channels, length_s = reader.audio_length()
        if channel is not None:
            if channels != CHANNELS:
                raise Reject("not_two_channels", f"{channels}, expected {CHANNELS}: the left and the right person's")
            return reader.audio(clip.span, channel=channel), None
        shift = self._shift(clip, role, reader) if clip.sounds and clip.sounds.mixed else None
        moved_s = Fraction(shift.seconds).limit_denominator(SAMPLE_RATE_HZ) if shift else Fraction(0)
        span = Span(clip.span.start_s + moved_s, clip.span.end_s + moved_s)
        missing_s = max(-float(span.start_s), float(span.end_s) - length_s)
        if missing_s > self.settings.max_missing_s:
            found = f"the {role}'s file is {length_s:.3f} s long, the clip is {float(span.start_s):.3f} to "
            wanted = f"{float(span.end_s):.3f} s of it, expected {self.settings.max_missing_s:g} s less at the most"
            raise Reject("sound_too_short", found + wanted)
        return reader.audio(span), shift

    def _shift(self, clip: Clip, role: str, reader: SourceReader) -> alignment.Shift:
        """How much later than in the sound of both things are heard in a person's file."""
        import soxr

        around_s, most_s = Fraction(self.settings.around_s), Fraction(self.settings.max_shift_s)
        start_s, end_s = max(clip.span.start_s - around_s, Fraction(0)), clip.span.end_s + around_s
        end_s = min(end_s, Fraction(clip.reader("audio").audio_length()[1]).limit_denominator(SAMPLE_RATE_HZ))
        spans = Span(start_s, end_s), Span(start_s - most_s, end_s + most_s)
        sounds = zip((clip.reader("audio"), reader), spans, strict=True)
        heard = [soxr.resample(one.audio(span), SAMPLE_RATE_HZ, alignment.RATE_HZ) for one, span in sounds]
        found = alignment.shift_of(*heard)
        if found.confidence < self.settings.least_confidence:
            detail = (
                f"the {role}'s: confidence {found.confidence:.2f}, expected {self.settings.least_confidence:g} or more "
                f"within {self.settings.max_shift_s:g} s (squared correlation {found.peak:.3f} at its best)"
            )
            raise Reject("sounds_do_not_match", detail)
        return found._replace(seconds=found.seconds - self.settings.max_shift_s)

    def _check(self, speaker: NDArray[np.float32], listener: NDArray[np.float32]) -> None:
        powers = [float(np.square(one, dtype=np.float64).sum()) for one in (speaker, listener)]
        together = float(np.dot(speaker.astype(np.float64), listener))
        if powers[0] * powers[1] > 0 and (alike := together**2 / (powers[0] * powers[1])) > self.settings.most_alike:
            raise Reject("sounds_alike", f"{alike:.4f}, expected {self.settings.most_alike:g} or less")
        if (level := level_dbfs(speaker)) < self.settings.silence_dbfs:
            expected = f"expected {self.settings.silence_dbfs:g} or more"
            told = f"the listener's {level_dbfs(listener):.1f}: are the two exchanged?"
            raise Reject("speaker_silent", f"mean level {level:.1f} dBFS, {expected}; {told}")

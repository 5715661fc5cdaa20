"""Who speaks, by the mouth's motion in the rhythm of speech, against the sound, within voiced time.

No network. In speech the mouth and the loudness of the voice rise and fall together between 2 and 7 times a second, one
a syllable (Chandrasekaran et al., "The natural statistics of audiovisual speech", PLoS Computational Biology 5(7),
2009). A smile, a yawn and a head that turns are slower, chewing is with lips closed, and a mesh's noise is small. So
what is measured of a mouth, in three dimensions and in lengths of the nose, passes a filter of that band, and two
things are asked of what is left:

* the *level* of the lips' opening, the logarithm of its size within about half a second;
* the *accord* of the jaw with the sound between 500 and 1500 Hz, where the first formant goes as the jaw falls: the
  highest correlation in the rhythm's band, the mouth up to a quarter of a second before the voice, within a second.

Either gives a logarithm of odds, of two normal distributions. Their means and deviations were measured once on the
single heads of ``media/b_heads`` that stand in no labelled conversation: the level on 14 recordings of people who talk
and 4 of people who do not, the accord on those 14 with their own sound and with that of the others;
``python -m jobs.study.measure_mouths`` measures again. The signals were chosen on 16 talking heads, of which two stand
in ``hd_pairs_open``: told which of two talking mouths is the voice's, by the accord of two seconds, jaw and first
formant are right in .91 of the frames, the lips' opening and all of the sound in .73. How the floor changes, and what
speaks against nobody, were not measured so: they were tried on composites of the heads, and those values were passed
over with which labelled conversations came out wrong. So the figures on those conversations are no independent proof.

The odds of all people in a picture meet in a hidden Markov model of who has the floor: one of them, or nobody who is to
be seen. A frame counts as far as a voice is heard; a pause leaves the floor where it is, though it changes there sooner
than amid a voice. Where nobody's mouth moves a voice belongs to nobody. A listener who laughs aloud over the speaker's
words is the model's weakness: such a mouth moves as much, and only the accord speaks against it; so are speakers who
hardly open their mouths, whose voice it may give to nobody, though hardly to a listener.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import FPS, frames_in
from stages.speakers.mfcc import RATE_HZ

Floats = NDArray[np.float64]

LIPS = ((13, 14), (82, 87), (312, 317))  # inner rims above and below: the middle, and half way to the corners
NOSE = (168, 2)  # its root and its base: neither speech nor a smile moves them
CHIN = 152

RHYTHM_HZ = (2.0, 7.0)  # of mouths and voices in speech (Chandrasekaran et al., figure 6)
ORDER = 2  # of Butterworth's filter, run forwards and backwards
PADDED_FRAMES = 15  # mirrored at the ends: a period of the slowest rhythm
LEADS = tuple(range(-2, round(frames_in(0.25)) + 1))  # frames; mouths open .1 to .3 s before the voice, clocks differ

FORMANT_HZ = (500.0, 1500.0)  # above the pitch, below most of the noise of consonants
FORMANT_ORDER = 4

LEVEL_S, ACCORD_S = 0.15, 0.5  # standard deviations of the windows: a syllable's length; a few syllables
TALKING_LEVEL, STILL_LEVEL = (-3.32, 0.81), (-4.94, 1.79)  # means and deviations, of the study measure_mouths
OWN_ACCORD, OTHERS_ACCORD = (0.72, 0.28), (0.40, 0.21)  # the same of the accord
FAINTEST = 1e-4  # noses; below it a mouth is still

FLOOR_S = 4.0  # mean time that a person holds the floor amid a voice, and how many times sooner it changes in a pause:
IN_PAUSES = 5  # about 2 s in talk (Levinson and Torreira, Frontiers in Psychology 6:731, 2015)

# Whether anybody seen is heard. NOBODYS = .3 and LEVEL_AGAINST_NOBODY = .05 part heads of b_heads from voices of other
# films better, but give long turns in labelled conversations to nobody: these values err on the side of finding.
NOBODYS = 0.1  # share of voices that are nobody's who is seen
COMES = 0.25  # as often as the floor changes among those who are seen, it goes to or comes from somebody else
LEVEL_AGAINST_NOBODY = 0.1  # what the level says of it, as a part of what it says of who: the look of a few seconds

LEAST_VOICE = 0.01  # so that in a pause too, who has the floor scores highest
CERTAIN = 12.0  # largest logarithm of odds that is told apart


def mouth(landmarks: NDArray[np.floating[Any]]) -> Floats:
    """How far the lips are apart and the chin is from the nose, in lengths of the nose, (frame, 2).

    Of landmarks (frame, 478, 3) in px; NaN where they are.
    """
    points = landmarks.astype(np.float64)
    lips = np.mean([_apart(points, *pair) for pair in LIPS], axis=0)
    nose = _apart(points, *NOSE)
    seen = np.isfinite(lips)
    typical = np.median(nose[seen]) if seen.any() else np.nan
    return np.stack([lips, _apart(points, NOSE[1], CHIN)], axis=1) / typical


def _apart(points: Floats, one: int, other: int) -> Floats:
    found: Floats = np.linalg.norm(points[:, one] - points[:, other], axis=1)
    return found


def loudness(sound: NDArray[np.floating[Any]], num_frames: int) -> Floats:
    """Root of the mean square, (frame,), of what sounds between 500 and 1500 Hz in a frame's time around its instant.

    Of sound (sample,) at 16 kHz, from the first frame's instant.
    """
    from scipy.signal import butter, sosfiltfilt

    passed = np.asarray(sound, np.float64)
    if len(passed):
        band = butter(FORMANT_ORDER, FORMANT_HZ, "bandpass", fs=RATE_HZ, output="sos")
        passed = sosfiltfilt(band, passed, padlen=min(RATE_HZ // 100, len(passed) - 1))
    edges = np.rint((np.arange(num_frames + 1) - 0.5) / frames_in(1.0) * RATE_HZ).astype(np.intp).clip(0, len(passed))
    energy = np.concatenate([[0.0], np.cumsum(passed**2)])
    return np.sqrt((energy[edges[1:]] - energy[edges[:-1]]).clip(0) / np.maximum(np.diff(edges), 1))


def in_rhythm(series: Floats) -> Floats:
    """The part of a series (frame,) between 2 and 7 Hz, in its place; frames with NaN are bridged, and stay NaN."""
    from scipy.signal import butter, sosfiltfilt

    padded = min(PADDED_FRAMES, len(series) - 1)
    seen = np.isfinite(series)
    if not seen.any():
        return series
    frames = np.arange(len(series))
    bridged = np.interp(frames, frames[seen], series[seen])
    passed = sosfiltfilt(butter(ORDER, RHYTHM_HZ, "bandpass", fs=FPS, output="sos"), bridged, padlen=padded)
    return np.where(seen, passed, np.nan)


def smoothed(series: Floats, deviation_s: float) -> Floats:
    """A series (frame,) under a Gaussian; its first and last value go on beyond its ends."""
    from scipy.ndimage import gaussian_filter1d

    found: Floats = gaussian_filter1d(series, frames_in(deviation_s), mode="nearest")
    return found


def level(moves: Floats) -> Floats:
    """Logarithm of the size (frame,) of motion in the rhythm of speech (frame,), in noses."""
    return np.log(np.sqrt(smoothed(moves**2, LEVEL_S)) + FAINTEST)


def accord(moves: Floats, heard: Floats) -> Floats:
    """Fisher's z of the highest correlation (frame,) of motion and loudness, both in the rhythm of speech (frame,)."""
    best = np.full(len(moves), -1.0)
    for lead in LEADS:
        ahead = np.zeros(len(heard))
        of_sound = slice(max(lead, 0), len(heard) + min(lead, 0))
        of_mouth = slice(max(-lead, 0), len(heard) - max(lead, 0))
        ahead[of_mouth] = heard[of_sound]
        sizes = np.sqrt(smoothed(moves**2, ACCORD_S) * smoothed(ahead**2, ACCORD_S))
        together = smoothed(moves * ahead, ACCORD_S)
        best = np.maximum(best, np.divide(together, sizes, out=np.zeros_like(sizes), where=sizes > FAINTEST**2))
    return np.arctanh(best.clip(-0.99, 0.99))


def evidence(mouths: Floats, sound: NDArray[np.floating[Any]]) -> Floats:
    """Logarithms of the odds that each frame is of one who speaks, by itself, by level and by accord, (frame, 2).

    0 where no face is seen.

    Parameters
    ----------
    mouths : (frame, 2), 30 a second, see `mouth`.
    sound : (sample,) at 16 kHz from the first frame's instant.
    """
    seen = np.isfinite(mouths).all(axis=1)
    lips, jaw = (np.where(seen, in_rhythm(series), 0) for series in mouths.T)
    heard = in_rhythm(loudness(sound, len(mouths)))
    by_level = odds(level(lips), TALKING_LEVEL, STILL_LEVEL) / frames_of_a_look(LEVEL_S)
    by_accord = even_odds(accord(jaw, heard), OWN_ACCORD, OTHERS_ACCORD) / frames_of_a_look(ACCORD_S)
    return np.where(seen[:, None], np.stack([by_level, by_accord], axis=1), 0)


def odds(found: Floats, yes: tuple[float, float], no: tuple[float, float]) -> Floats:
    """Logarithm of the odds of two normal distributions, each a mean and a deviation, at what was found.

    The odds of two such distributions have an extreme, beyond which they turn: there they stay as they are at it, for a
    mouth that moves more than most who talk is no stiller for it. The extreme bounds them on the other side too: as
    much as one look can say for, it can say against, since a mouth is shut for a sound or two.
    """
    (mean, width), (other, others_width) = yes, no
    extreme = (mean / width**2 - other / others_width**2) / (1 / width**2 - 1 / others_width**2)
    place = np.minimum(found, extreme) if width < others_width else np.maximum(found, extreme)

    def log_odds(x: Floats | float) -> Any:
        return ((x - other) / others_width) ** 2 / 2 - ((x - mean) / width) ** 2 / 2 + np.log(others_width / width)

    most = abs(float(log_odds(extreme)))
    return np.clip(log_odds(place), -most, most)


def even_odds(found: Floats, yes: tuple[float, float], no: tuple[float, float]) -> Floats:
    """The same of two distributions to which one deviation is given, the root of their mean variance: no extreme.

    For the accord, of which a high value is hardly chance, however wide its distribution among those who speak.
    """
    variance = (yes[1] ** 2 + no[1] ** 2) / 2
    return (yes[0] - no[0]) / variance * (found - (yes[0] + no[0]) / 2)


def frames_of_a_look(deviation_s: float) -> float:
    """Frames that share one look through a Gaussian window: evidence of each is so small a part of it."""
    return 2 * np.sqrt(np.pi) * frames_in(deviation_s)


def speaking(evidences: NDArray[np.floating[Any]], voice: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Logarithm of the odds that each person speaks, float32 (person, frame), of all people in a picture together.

    First which of them has the floor, then whether he, and not somebody who is not seen, is heard. How much mouths move
    says the first, and of the second little: mouths move without a word, and some speak that hardly open.

    Parameters
    ----------
    evidences : (person, frame, 2), see `evidence`.
    voice : (frame,) the probability that somebody is heard.
    """
    by_level, by_accord = np.moveaxis(evidences, 2, 0)
    leaves = (1 + (IN_PAUSES - 1) * (1 - voice)) / frames_in(FLOOR_S)
    people = len(evidences)
    who = shares(voice * (by_level + by_accord), np.full(people, 1 / people), leaves)
    his = voice * (who * (LEVEL_AGAINST_NOBODY * by_level + by_accord)).sum(axis=0)
    anybody = shares(np.stack([0 * his, his]), np.array([NOBODYS, 1 - NOBODYS]), leaves * COMES)[1]
    limit = 1 / (1 + np.exp(CERTAIN))
    share = (who * anybody * np.maximum(voice, LEAST_VOICE)).clip(limit, 1 - limit)
    return np.log(share / (1 - share)).astype(np.float32)


def shares(seen: Floats, before: Floats, leaves: Floats) -> Floats:
    """Probability of each state in each frame of a hidden Markov model, (state, frame).

    Parameters
    ----------
    seen : logarithm of the likelihood of a frame by itself (state, frame).
    before : probability of each state before anything is seen (state,).
    leaves : probability (frame,) that the state is drawn anew between the frame before and this one.
    """
    past, future = np.zeros((2, *seen.shape))
    past[:, 0] = np.log(before)
    for t in range(1, seen.shape[1]):
        likelihood = _scaled(past[:, t - 1] + seen[:, t - 1])
        past[:, t] = np.log((1 - leaves[t]) * likelihood + leaves[t] * before * likelihood.sum())
        likelihood = _scaled(future[:, -t] + seen[:, -t])
        future[:, -1 - t] = np.log((1 - leaves[-t]) * likelihood + leaves[-t] * (before @ likelihood))
    found = _scaled(past + seen + future)
    return found / found.sum(axis=0)


def _scaled(logarithms: Floats) -> Floats:
    """Likelihoods (state, ...) of which the highest is 1."""
    found: Floats = np.exp(logarithms - logarithms.max(axis=0))
    return found

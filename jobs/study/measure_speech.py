"""Measure speech recognition on recordings whose words are known: ``python -m jobs.study.measure_speech FOLDER``.

FOLDER holds ``<name>.wav`` or ``.flac`` beside ``<name>.json`` with the words under ``text``; other files are left out.
``--set asr.backend=whisper --set asr.model=base.en`` measures another recogniser; ``--write docs/speech.md`` renews the
table of that recogniser between its markers. Word error rate: edits to the reference over its words, after Levenshtein.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.command import command, option
from pipeline.clock import SAMPLE_RATE_HZ
from pipeline.settings import parse_overrides, resolve
from pipeline.weights import resolve_all
from schemas.errors import UserError
from stages.asr import DEFAULTS, Asr
from stages.transcribers.transcript import SPEECH_RATE_HZ

NUMBERS = {"oh": "zero"}  # how a digit may be read


@dataclass(frozen=True)
class Recording:
    """A recording and the words that are said in it."""

    name: str
    path: Path
    words: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """What a recogniser made of one recording."""

    recording: Recording
    errors: int
    length_s: float
    seconds: float
    heard: str


def recordings(folder: Path) -> Iterator[Recording]:
    """The recordings of a folder whose words are known and not in doubt."""
    for path in sorted(folder.glob("*.json")):
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f'{path}: expected JSON such as {{"text": "the words"}}, found {error}') from None
        sounds = [path.with_suffix(suffix) for suffix in (".wav", ".flac") if path.with_suffix(suffix).is_file()]
        if sounds and "text" in known and "note" not in known:
            yield Recording(path.stem, sounds[0], plain_words(known["text"]))


def plain_words(text: str) -> tuple[str, ...]:
    """The words of a text without case and signs."""
    spelled = text.lower().replace("mister", "mr")
    return tuple(NUMBERS.get(word, word) for word in re.findall(r"[a-z0-9']+", spelled))


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of words to replace, insert or delete (Levenshtein 1966)."""
    row = list(range(len(heard) + 1))
    for i, wanted in enumerate(reference, start=1):
        above, row = row, [i]
        for j, word in enumerate(heard, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (wanted != word)))
    return row[-1]


def listen(path: Path) -> np.ndarray:
    """A recording as the stage hears a clip: from 44.1 kHz to float32 (sample,) at 16 kHz, the mean of its channels."""
    import ffmpeg
    import imageio_ffmpeg
    import soxr

    sound = ffmpeg.input(str(path)).output("pipe:", format="f32le", ac=1, ar=SAMPLE_RATE_HZ)
    quiet = sound.global_args("-nostdin", "-loglevel", "error")
    try:
        raw, _ = quiet.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True)
    except ffmpeg.Error as error:
        raise UserError(f"{path}: expected a recording: {error.stderr.decode().splitlines()[0]}") from None
    samples: np.ndarray = soxr.resample(np.frombuffer(raw, np.float32), SAMPLE_RATE_HZ, SPEECH_RATE_HZ)
    return samples


def measure(stage: Asr, folder: Path) -> list[Score]:
    """The scores of a recogniser, set up, on every recording of a folder."""
    scores = []
    for recording in recordings(folder):
        samples = listen(recording.path)
        started = time.perf_counter()
        heard = stage.transcribe(samples).text
        seconds = time.perf_counter() - started
        errors = word_errors(recording.words, plain_words(heard))
        scores.append(Score(recording, errors, len(samples) / SPEECH_RATE_HZ, seconds, heard))
    if not scores:
        raise UserError(f"{folder}: no recordings; expected NAME.wav or NAME.flac beside NAME.json with their words")
    return scores


def table(scores: Sequence[Score]) -> str:
    """The scores in Markdown, without times, which differ from machine to machine."""
    lines = ["| recording | words | errors | heard |", "| --- | --- | --- | --- |"]
    lines += [f"| {s.recording.name} | {len(s.recording.words)} | {s.errors} | {s.heard} |" for s in scores]
    words, errors = sum(len(score.recording.words) for score in scores), sum(score.errors for score in scores)
    return "\n".join([*lines, f"| all: word error rate {errors / words:.1%} | {words} | {errors} | |"])


def renew(text: str, backend: str, content: str) -> str:
    """A document with the table of one recogniser made anew."""
    begin, end = f"<!-- begin: {backend} -->", "<!-- end -->"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: f"{begin}\n\n{content}\n\n{end}", text, flags=re.DOTALL)


@command(
    option("folder", type=Path, help="recordings with their words"),
    option("--set", action="append", default=[], metavar="asr.KEY=VALUE", help="change a setting"),
    option("--write", type=Path, help="renew the recogniser's table in this document"),
)
def main(options: argparse.Namespace) -> None:
    """Measure recognisers."""
    overrides = parse_overrides(options.set)
    if unknown := sorted(set(overrides) - {"asr"}):
        raise UserError(f"--set {unknown[0]}: allowed: asr.KEY=VALUE")
    document = options.write.read_text(encoding="utf-8") if options.write else ""
    stage = Asr(resolve("asr", Asr.Settings, overrides.get("asr", {})))
    resolve_all(stage.weights())
    stage.setup("cpu")
    scores = measure(stage, options.folder)
    content, settings = table(scores), stage.settings
    name = f"{settings.backend} {settings.model or DEFAULTS[settings.backend]}"
    print(content)
    speed = sum(score.length_s for score in scores) / sum(score.seconds for score in scores)
    print(f"\n{name}: {speed:.1f} x real time")
    if options.write:
        options.write.write_text(renew(document, name, content), encoding="utf-8")

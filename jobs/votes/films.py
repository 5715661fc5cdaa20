"""What is judged: the clips of a manifest, or of a built data set, and the film of each as an annotator sees it.

Of a manifest's clip that is the whole picture of its source with two seconds before and after, so that boundaries and
sides can be judged; of a cropped pair, and of built data, both people side by side. What is foreign is never served:
the film is read by the sandboxed reader and written anew by our own encoder, frame k at k/30 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.clip import Pair
from pipeline.clock import Span, VideoTimes, frames_in, map_to_grid, seconds_of
from pipeline.dataset.read import media_file, read_clips
from pipeline.dataset.storage import location
from pipeline.dataset.store import Store
from pipeline.manifest.clips_csv import ClipRow, read_clips_csv
from pipeline.manifest.load import DATASET_KEYS, Source, load_manifest
from pipeline.manifest.toml import Document
from pipeline.media.encode import VideoWriter, write_wav
from pipeline.media.reader import SourceReader
from pipeline.plan import digest
from pipeline.sources.hashes import source_hashes
from pipeline.sources.takedown import takedown_ids, withdrawn
from pipeline.weights import cache_root
from schemas.column import ROLES
from schemas.errors import UserError

MARGIN_FRAMES = frames_in(2)  # shown before and after a clip
HEIGHT_PX = 540  # of what is shown, or the source's where that is less
FILM_VERSION = 1  # part of every fingerprint: what is shown otherwise makes older votes stale


@dataclass(frozen=True)
class Film:
    """A clip and what it is seen in."""

    row: ClipRow  # as the manifest or the data set has it
    media: Path | Pair
    span: Span  # of the clip in those files
    fingerprint: str  # of what is shown: files, span and how

    @property
    def clip_id(self) -> str:
        return self.row.clip_id

    @property
    def num_frames(self) -> int:
        return self.span.num_frames

    @property
    def asks_side(self) -> bool:
        """Whether both people are in one picture, where one can see on which side the speaker sits."""
        return isinstance(self.media, Path)


@dataclass(frozen=True)
class Films:
    """All clips that can be judged. ``absent`` says why others cannot, by clip id."""

    path: Path  # the manifest, or the folder of the data set
    table: Path | None  # the manifest's table of clips
    name: str
    films: dict[str, Film]
    rows: list[ClipRow]  # of the table of clips as it is written, splits not derived
    absent: dict[str, str]
    withdrawn_now: Callable[[], set[str]]  # ids that may not be shown any more, read anew

    @property
    def votes_folder(self) -> Path:
        """Where votes lie if nobody says otherwise: beside the manifest, or beside the data set's folder."""
        return self.path.parent / f"{self.path.stem if self.path.is_file() else self.path.name}.votes"

    def may_show(self, film: Film) -> bool:
        return not withdrawn(film.row.columns(), self.withdrawn_now())


def open_films(place: str) -> Films:
    """The clips of a manifest, or of a data set's folder; `UserError` for neither, or for one in object storage."""
    path = location(place)
    if not isinstance(path, Path):
        raise UserError(f"{place}: judge a manifest, or a data set in a folder: copy it here first")
    path = path.resolve()
    return _of_dataset(path) if path.is_dir() else _of_manifest(path)


def _of_manifest(path: Path) -> Films:
    manifest = load_manifest(path)

    def withdrawn_now() -> set[str]:
        return {*Document(path).table("dataset", DATASET_KEYS).withdrawn("takedown")}

    rows = [(clip, manifest.sources[clip.source_id]) for clip in manifest.clips]
    absent = {clip.clip_id: "withdrawn" for clip, _ in rows if withdrawn(clip.columns(), withdrawn_now())}
    absent |= {
        clip.clip_id: f"source {clip.source_id} is not downloaded: python -m jobs.download {path}"
        for clip, source in rows
        if clip.clip_id not in absent and not all(file.is_file() for file in source.files)
    }
    there = [(clip, source, clip.span) for clip, source in rows if clip.clip_id not in absent]
    as_written = sorted(read_clips_csv(manifest.clips_file, manifest.sources), key=lambda row: row.clip_id)
    return Films(
        path, manifest.clips_file.resolve(), manifest.name, _films(path, there), as_written, absent, withdrawn_now
    )


def _of_dataset(root: Path) -> Films:
    videos = [f"{role}_video" for role in ROLES]
    there = []
    for values in read_clips(root, [*videos, "audio"]):
        pair = Pair(*(media_file(root, values[name]) for name in [*videos, "audio"]))
        span = Span(*(Fraction(str(values[name])) for name in ("start_s", "end_s")))
        known = {name: values[name] for name in ("clip_id", "source_id", "speaker_side", "attitude", "split")}
        known |= {name: values[name] for name in ("speaker_id", "listener_id")}
        row = ClipRow(**known, span=span, line=0)
        source = Source(row.clip_id, pair.speaker, "", pair=pair)
        there.append((row, source, Span(Fraction(0), seconds_of(values["num_frames"]))))
    return Films(root, None, root.name, _films(root, there), [row for row, *_ in there], {}, lambda: takedown_ids(root))


def _films(path: Path, there: Sequence[tuple[ClipRow, Source, Span]]) -> dict[str, Film]:
    cache = Store(cache_root() / "films" / digest(str(path)))  # hashes of sources, by size and time of change
    hashes = source_hashes(cache, {source.source_id: source for _, source, _ in there}.values())
    films = {}
    for row, source, span in there:
        shown = [FILM_VERSION, hashes[source.source_id], str(span.start_s), str(span.end_s)]
        films[row.clip_id] = Film(row, source.resolved(), span, digest(shown))
    return films


@dataclass(frozen=True)
class Shown:
    """A film that was written: the clip's frame 0 is its frame ``before``."""

    video: Path
    sound: Path | None
    frames: int
    before: int
    after: int


def write_film(film: Film, folder: Path) -> Shown:
    """Write what an annotator sees and hears into a folder.

    Raises
    ------
    pipeline.media.sandbox.MediaError : the source cannot be read.
    OSError : the disk is full.
    """
    files = film.media.files if isinstance(film.media, Pair) else (film.media,)
    with ExitStack() as stack:
        readers = [stack.enter_context(SourceReader(file)) for file in files]
        pictures, sound = readers[:2], readers[-1]
        times = [reader.frame_times() for reader in pictures]
        before = min(
            _whole_frames(film.span.start_s - max(Fraction(0), *(one.time_s(0) for one in times))), MARGIN_FRAMES
        )
        last_s = min(one.time_s(-1) for one in times)
        after = min(_whole_frames(last_s - film.span.frame_time(film.num_frames - 1)), MARGIN_FRAMES)
        end_s = film.span.frame_time(film.num_frames + after)
        span = Span(film.span.start_s - seconds_of(before), end_s)
        video, wav = folder / f"{film.fingerprint}.mp4", folder / f"{film.fingerprint}.wav"
        _write_pictures(pictures, times, span, video)
        has_sound = not film.asks_side or sound.info().audio is not None  # a pair has a file of its own for it
        if has_sound:
            write_wav(wav, sound.audio(span))
        return Shown(video, wav if has_sound else None, span.num_frames, before, after)


def _write_pictures(readers: Sequence[SourceReader], times: Sequence[VideoTimes], span: Span, path: Path) -> None:
    sizes = [_shown_size(reader) for reader in readers]
    height = min(size[1] for size in sizes)
    sizes = [(round(width * height / tall / 2) * 2, height) for width, tall in sizes]
    streams = [_frames(*each, span) for each in zip(readers, times, sizes, strict=True)]
    with VideoWriter(path, (sum(width for width, _ in sizes), height), crf=23) as writer:
        for frames in zip(*streams, strict=True):
            writer.write(np.concatenate(frames, axis=1))


def _frames(reader: SourceReader, times: VideoTimes, size: tuple[int, int], span: Span) -> Iterator[np.ndarray]:
    for _, rgb in reader.frames(map_to_grid(span, times).pts, size):
        yield rgb


def _shown_size(reader: SourceReader) -> tuple[int, int]:
    """Width and height, even, no higher than `HEIGHT_PX` and never enlarged."""
    info = reader.info()
    height = max(min(info.height, HEIGHT_PX) // 2 * 2, 2)
    return max(round(info.width * height / info.height / 2) * 2, 2), height


def _whole_frames(duration_s: Fraction) -> int:
    """Frames that fit into a duration, none into a negative one."""
    return max(int(frames_in(duration_s)), 0)

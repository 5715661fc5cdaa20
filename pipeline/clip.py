"""A clip at work: what a stage sees while it computes one clip's columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.clock import Span
from pipeline.media.encode import OwnVideo
from pipeline.media.sandbox import CPU
from schemas.clip import SIDES
from schemas.column import LISTENER, portrait_name

if TYPE_CHECKING:
    from pipeline.media.reader import SourceReader

KEPT_BYTES = 2**27  # of each of its head videos: 30 s
HANDED_ON = 8  # clips whose reading counts together against `ReadingLimits.cpu_s`, which is for a hundred and more


@dataclass(frozen=True)
class Pair:
    """A source whose people and sound come in files of their own, on one clock.

    ``cropped`` says that somebody has cut out the heads already, ``portrait`` that the listener's file is a picture.
    """

    speaker: Path
    listener: Path
    audio: Path
    cropped: bool = True
    portrait: bool = False

    @property
    def files(self) -> tuple[Path, Path, Path]:
        return (self.speaker, self.listener, self.audio)


@dataclass(frozen=True)
class Sounds:
    """Each person's own sound: of who sits left and who sits right, or of a pair's speaker and listener.

    ``own`` are channels of the source's sound (0 is the left one), or files. ``mixed`` says that there is a sound of
    both beside these, on the films' clock; files then have clocks of their own. Without it they are on the films'.
    """

    own: tuple[int, int] | tuple[Path, Path]
    mixed: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(one for one in self.own if isinstance(one, Path))


class Readers:
    """The sandboxed readers of a source, handed on to its next clip.

    To start one costs .2 s of processor time, to read when a film shows its frames up to seconds. Of one source alone:
    what a film does to the process that decodes it, it does to itself.
    """

    def __init__(self, decoder: str = CPU) -> None:
        self._decoder = decoder  # `CPU` or `NVDEC`
        self._readers: dict[Path, SourceReader] = {}
        self._clips = 0

    def of(self, path: Path) -> SourceReader:
        """The reader of a file, made on first use."""
        from pipeline.media.reader import SourceReader

        if path not in self._readers:
            self._readers[path] = SourceReader(path, decoder=self._decoder)
        return self._readers[path]

    def hand_on(self, clip: Clip) -> None:
        """Before the next clip: what it does not read is closed, and every few clips all child processes are."""
        kept = {path: reader for path, reader in self._readers.items() if path in clip.files}
        is_worn = self._clips == HANDED_ON
        self._clips = 1 if is_worn or not kept else self._clips + 1
        for path, reader in self._readers.items():
            if is_worn or path not in kept:
                reader.close()
        self._readers = kept

    def close(self) -> None:
        """Stop them all."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


class Clip:
    """One clip with the columns computed so far.

    ``clip["acoustic"]`` is the value of a column that the stage lists in ``reads``: a numpy array, a Python scalar or
    None. Media columns are files: ``clip.path("listener_video")``. Files that the stage writes go to
    ``clip.output("listener.mp4")`` and become visible only once the stage has succeeded.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        span: Span,
        source: Path | Pair,
        root: Path,
        scratch: Path,
        sounds: Sounds | None = None,
        decoder: str = CPU,
        readers: Readers | None = None,
    ) -> None:
        self.values = dict(values)  # the manifest's columns and those of earlier stages
        self.span = span  # the exact time span in the source
        self.source = source
        self.sounds = sounds  # of each person, where the manifest names them
        self.root = root  # the data set's folder, to which media columns are relative
        self._scratch = scratch  # for files not yet published
        self._whose = ""  # stands before their names where a stage hears one person alone
        self._handed_on = readers
        self._readers = readers or Readers(decoder)
        self._videos: dict[Path, OwnVideo] = {}

    @property
    def clip_id(self) -> str:
        return str(self.values["clip_id"])

    @property
    def num_frames(self) -> int:
        """Length of the frame axis: rows of every per-frame column and frames of both videos."""
        return self.span.num_frames

    def __getitem__(self, column: str) -> Any:
        try:
            return self.values[self.stored(column)]
        except KeyError:
            asked = f"clip {self.clip_id} has no column {column!r} here"
            raise KeyError(f"{asked}: list it in the stage's `reads`") from None

    def path(self, column: str) -> Path:
        """The file behind a media column; `ValueError` where the clip has none."""
        if self[column] is None:
            raise ValueError(f"clip {self.clip_id} has no {column}")
        return self.root / str(self[column])

    def video(self, column: str) -> OwnVideo:
        """The video behind a media column, decoded once for the stages that this clip goes through in turn.

        Where a stage takes many clips together nothing is kept: the memory of all of them would be taken at once.
        """
        path = self.path(column)
        if path not in self._videos:
            self._videos[path] = OwnVideo(path, KEPT_BYTES if self._handed_on else 0)
        return self._videos[path]

    def output(self, name: str) -> Path:
        """Where to write a file of this clip, e.g. ``listener.mp4``; return this path as the media column's value."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / f"{self._whose}{name}"

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that its readers read."""
        films = self.source.files if isinstance(self.source, Pair) else (self.source,)
        return (*films, *(self.sounds.files if self.sounds else ()))

    @property
    def is_pair(self) -> bool:
        """Whether speaker, listener and sound come as files of their own, with nothing left to detect."""
        return isinstance(self.source, Pair) and self.source.cropped

    @property
    def has_portrait(self) -> bool:
        """Whether a picture stands for the listener: a video of one frame, and one row in what is of its frames."""
        return isinstance(self.source, Pair) and self.source.portrait

    def stored(self, column: str) -> str:
        """The column that holds what a stage calls so: another one where the listener is a picture."""
        portrait = portrait_name(column) if self.has_portrait else ""
        return portrait if portrait in self.values else column

    def reader(self, part: Literal["speaker", "listener", "audio"] = "speaker") -> SourceReader:
        """The sandboxed reader of the source, started on first use and shared by the stages and clips of this source.

        Where the source is one video it is the same for every part; of a `Pair` it reads the part's own file.
        """
        path: Path = getattr(self.source, part) if isinstance(self.source, Pair) else self.source
        return self._readers.of(path)

    def own_sound(self, role: str) -> tuple[SourceReader, int | None]:
        """The reader of a person's own sound and the channel that it is, if not all; where `sounds` tells of one."""
        assert self.sounds is not None, "ask `sounds` first"
        sits_right = (role == LISTENER) != (self.values["speaker_side"] == SIDES[1])  # a pair has no sides
        own = self.sounds.own[sits_right]
        return (self._readers.of(own), None) if isinstance(own, Path) else (self.reader("audio"), own)

    def hearing(self, role: str, columns: Iterable[str]) -> Clip:
        """This clip for a stage that shall find a person's own values where it asks for these columns."""
        heard = copy(self)
        heard.values = self.values | {name: self.values[f"{role}_{name}"] for name in columns}
        heard._whose = f"{role}_"
        return heard

    def close(self) -> None:
        """Stop its own readers and forget its videos. The engine calls it when the clip's stages are done."""
        self._videos.clear()
        if self._handed_on is None:
            self._readers.close()

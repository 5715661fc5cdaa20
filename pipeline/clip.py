"""A clip at work: what a stage sees while it computes one clip's columns."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.clock import Span

if TYPE_CHECKING:
    from pipeline.media.reader import SourceReader


@dataclass(frozen=True)
class Pair:
    """A source that somebody has cropped already: a video of each person, and their sound, on one clock."""

    speaker: Path
    listener: Path
    audio: Path

    @property
    def files(self) -> tuple[Path, Path, Path]:
        return (self.speaker, self.listener, self.audio)


class Clip:
    """One clip with the columns computed so far.

    ``clip["acoustic"]`` is the value of a column that the stage lists in ``reads``: a numpy array, a Python scalar or
    None. Media columns are files: ``clip.path("listener_video")``. Files that the stage writes go to
    ``clip.output("listener.mp4")`` and become visible only once the stage has succeeded.
    """

    def __init__(self, values: Mapping[str, Any], span: Span, source: Path | Pair, root: Path, scratch: Path) -> None:
        self.values = dict(values)  # the manifest's columns and those of earlier stages
        self.span = span  # the exact time span in the source
        self.source = source
        self.root = root  # the data set's folder, to which media columns are relative
        self._scratch = scratch  # for files not yet published
        self._open = ExitStack()
        self._readers: dict[Path, SourceReader] = {}

    @property
    def clip_id(self) -> str:
        return str(self.values["clip_id"])

    @property
    def num_frames(self) -> int:
        """Length of the frame axis: rows of every per-frame column and frames of both videos."""
        return self.span.num_frames

    def __getitem__(self, column: str) -> Any:
        try:
            return self.values[column]
        except KeyError:
            asked = f"clip {self.clip_id} has no column {column!r} here"
            raise KeyError(f"{asked}: list it in the stage's `reads`") from None

    def path(self, column: str) -> Path:
        """The file behind a media column."""
        return self.root / str(self[column])

    def output(self, name: str) -> Path:
        """Where to write a file of this clip, e.g. ``listener.mp4``; return this path as the media column's value."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / name

    @property
    def is_pair(self) -> bool:
        """Whether speaker, listener and sound come as files of their own, with nothing left to detect."""
        return isinstance(self.source, Pair)

    def reader(self, part: Literal["speaker", "listener", "audio"] = "speaker") -> SourceReader:
        """The sandboxed reader of the source, started on first use and shared by the stages of this clip.

        Where the source is one video it is the same for every part; of a `Pair` it reads the part's own file.
        """
        from pipeline.media.reader import SourceReader

        path: Path = getattr(self.source, part) if isinstance(self.source, Pair) else self.source
        if path not in self._readers:
            self._readers[path] = self._open.enter_context(SourceReader(path))
        return self._readers[path]

    def close(self) -> None:
        """Stop the readers. The engine calls it when the clip's stages are done."""
        self._open.close()
        self._readers.clear()

"""A clip at work: what a stage sees while it computes one clip's columns."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clock import Span

if TYPE_CHECKING:
    from pipeline.media import SourceReader


class Clip:
    """One clip with the columns computed so far.

    ``clip["acoustic"]`` is the value of a column that the stage lists in ``reads``: a numpy array, a Python scalar or
    None. Media columns are files: ``clip.path("listener_video")``. Files that the stage writes go to
    ``clip.output("listener.mp4")`` and become visible only once the stage has succeeded.

    Parameters
    ----------
    values : the manifest's columns and those of earlier stages; media columns relative to ``root``.
    span : the exact time span in the source.
    source : the source file.
    root : the data set's folder; scratch : a folder for files not yet published.
    """

    def __init__(self, values: Mapping[str, Any], span: Span, source: Path, root: Path, scratch: Path) -> None:
        self.values = dict(values)
        self.span = span
        self.source = source
        self.root = root
        self._scratch = scratch
        self._open = ExitStack()
        self._reader: SourceReader | None = None

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
            raise KeyError(
                f"clip {self.clip_id} has no column {column!r} here: list it in the stage's `reads`"
            ) from None

    def path(self, column: str) -> Path:
        """The file behind a media column."""
        return self.root / str(self[column])

    def output(self, name: str) -> Path:
        """Where to write a file of this clip, e.g. ``listener.mp4``; return this path as the media column's value."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / name

    def reader(self) -> SourceReader:
        """The sandboxed reader of the source, started on first use and shared by the stages of this clip."""
        from pipeline.media import SourceReader

        if self._reader is None:
            self._reader = self._open.enter_context(SourceReader(self.source))
        return self._reader

    def close(self) -> None:
        """Stop the reader. The engine calls it when the clip's stages are done."""
        self._open.close()
        self._reader = None

    def frame_time(self, frame: int) -> Fraction:
        """Time in the source, in seconds, of a frame of the clip's grid."""
        return self.span.frame_time(frame)

"""The contract of a stage: one file in ``stages/`` that turns columns of a clip into new columns.

Everything that a stage is stands in its file. From it are derived: execution order, Parquet schema, the column table
in the docs, the manifest's keys, ``--help``, fingerprints and the contract tests. A minimal stage::

    class Loudest(Stage):
        \"\"\"Index of the loudest frame.\"\"\"

        reads = ("acoustic",)
        writes = (Column("loudest_frame", "int32", unit="frame", meaning="frame with the highest loudness"),)

        def process(self, clip):
            return {"loudest_frame": np.int32(clip["acoustic"][:, 44].argmax())}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.column import Column

if TYPE_CHECKING:
    from pipeline.clip import Clip


class Reject(Exception):
    """This clip cannot be used, and that is an answer: it becomes a row of the ledger with its reason.

    Parameters
    ----------
    reason : a key of the stage's ``rejects``.
    detail : what was found and what was expected, in numbers, for the person who reads the ledger.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def setting(default: Any, meaning: str, *, choices: tuple[Any, ...] = ()) -> Any:
    """A field of a stage's ``Settings`` with its meaning (printed by ``--help``) and its allowed values."""
    return field(default=default, metadata={"meaning": meaning, "choices": choices})


@dataclass(frozen=True)
class NoSettings:
    """For stages with nothing to set."""


class Stage:
    """Base class of all stages. Constructor cheap, `setup` loads, `process` computes.

    Class attributes (those marked * may be properties that depend on ``self.settings``)

    version : raise it when the same input would give another output; finished clips are then computed again.
    reads * : names of columns it needs, of the manifest or of other stages; ``source`` stands for the source file.
    writes * : columns it produces.
    rejects : reason -> meaning of every `Reject` it may raise.
    weights * : names of entries in ``manifests/weights.toml``.
    cpus, gpus : what one copy wants where the cluster has it; without GPUs it runs on the CPU.
    Settings : a frozen dataclass, a field a setting.
    """

    version: ClassVar[int] = 1
    reads: tuple[str, ...] = ()
    writes: tuple[Column, ...] = ()
    rejects: ClassVar[dict[str, str]] = {}
    weights: tuple[str, ...] = ()
    cpus: ClassVar[float] = 1
    gpus: ClassVar[float] = 0
    Settings: ClassVar[type] = NoSettings
    name: ClassVar[str] = ""  # the file's stem, set by the registry

    def __init__(self, settings: Any = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    def setup(self, device: str) -> None:
        """Load models and other heavy things onto ``device`` (``"cpu"`` or ``"cuda"``). Called once a worker."""

    def process(self, clip: Clip) -> dict[str, Any]:
        """Compute this stage's columns of one clip, or raise `Reject`."""
        raise NotImplementedError

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        """Compute all clips of a part; an exception in the list is the outcome of that clip alone.

        Override it where batching across clips pays; the default processes one clip after the other.
        """
        return [_outcome(self, clip) for clip in clips]


def _outcome(stage: Stage, clip: Clip) -> dict[str, Any] | Exception:
    try:
        return stage.process(clip)
    except Exception as error:  # becomes a row of the ledger: one bad clip never costs another
        return error

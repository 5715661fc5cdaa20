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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.column import Column
from schemas.errors import UserError

if TYPE_CHECKING:
    from pipeline.clip import Clip


class Reject(Exception):
    """This clip cannot be used, and that is an answer: it becomes a row of the ledger with its reason.

    ``reason`` is a key of the stage's ``rejects``, ``detail`` what was found and expected, in numbers, for people.
    ``frames`` are those of the clip at which to look, if it is about some; the diary keeps them for the viewer.
    """

    def __init__(self, reason: str, detail: str = "", frames: Sequence[int] = ()) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.frames = tuple(frames)


class Warned(dict[str, Any]):
    """Columns of a clip that can be used, with something that a person should look at: ``return Warned(columns, ...)``.

    ``reason`` is a key of the stage's ``warnings``, ``detail`` what was found, in numbers. The row of the ledger keeps
    both, and the build's last lines say them.
    """

    def __init__(self, columns: Mapping[str, Any], reason: str, detail: str) -> None:
        super().__init__(columns)
        self.reason = reason
        self.detail = detail


def setting(default: Any, meaning: str, *, choices: tuple[Any, ...] = (), least: float = 0) -> Any:
    """A field of a stage's ``Settings`` with its meaning (printed by ``--help``) and its allowed values.

    Of numbers these are ``least`` and more, or all where the default is less: few quantities can be negative.
    """
    return field(default=default, metadata={"meaning": meaning, "choices": choices, "least": least})


@dataclass(frozen=True)
class NoSettings:
    """For stages with nothing to set."""


DECLARATIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("reads", "writes", "weights"), (tuple,)),
    **dict.fromkeys(("cpus", "gpus"), (float, int)),
}
"""What a stage may declare as a value or as a method, and the types of the values."""


class Stage:
    """Base class of all stages. Constructor cheap, `setup` loads, `process` computes.

    What it declares with `reads`, `writes`, `weights`, `cpus` and `gpus` it may write as a plain value, as above, or,
    where ``self.settings`` decide, as a method; whoever asks calls the method.

    Attributes
    ----------
    version : raise it when the same input would give another output; finished clips are then computed again.
    opt_in : whether it runs only where the manifest names it: in ``[dataset] stages``, or with a table of its own.
    batches_on : devices on which `process_part` is asked where it has one of its own; on others clips are asked one by
        one, so that the bytes of a clip do not depend on its company.
    rejects : reason -> meaning of every `Reject` it may raise.
    warnings : reason -> meaning of every `Warned` it may return.
    Settings : a frozen dataclass, a field a setting.
    """

    version: ClassVar[int] = 1
    opt_in: ClassVar[bool] = False
    batches_on: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    rejects: ClassVar[dict[str, str]] = {}
    warnings: ClassVar[dict[str, str]] = {}
    Settings: ClassVar[type] = NoSettings
    name: ClassVar[str] = ""  # the file's stem, set by the registry

    def __init__(self, settings: Any = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    def __init_subclass__(cls) -> None:
        """Turn plain values of declarations into the methods that the engine calls."""
        super().__init_subclass__()
        for declaration, kinds in DECLARATIONS.items():
            value = vars(cls).get(declaration)
            if isinstance(value, kinds):
                setattr(cls, declaration, lambda self, value=value: value)
            elif value is not None and not callable(value):
                found = f"found {type(value).__name__} {value!r}"
                raise UserError(f"stage {cls.__name__}: {declaration}: expected {kinds[0].__name__} or method, {found}")

    def reads(self) -> tuple[str, ...]:
        """Names of columns it needs, of the manifest or of other stages; ``source`` stands for the source file."""
        return ()

    def writes(self) -> tuple[Column, ...]:
        """Columns it produces."""
        return ()

    def weights(self) -> tuple[str, ...]:
        """Names of entries in ``manifests/weights.toml``, or paths of files."""
        return ()

    def cpus(self) -> float:
        """Cores that one copy wants; libraries get so many threads."""
        return 1

    def gpus(self) -> float:
        """Share of a GPU that one copy wants where the cluster has some; without it runs on the CPU."""
        return 0

    def setup(self, device: str) -> None:
        """Load models and other heavy things onto ``device`` (``"cpu"`` or ``"cuda"``). Called once a worker."""

    def process(self, clip: Clip) -> dict[str, Any]:
        """Compute this stage's columns of one clip, or raise `Reject`."""
        raise NotImplementedError

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        """Compute all clips of a part; an exception in the list is the outcome of that clip alone.

        Override it where batching across clips pays; the default processes one clip after the other. What it raises
        is the batch's own failure: the ledger keeps it, and the clips are asked one by one.
        """
        return [answer(self.process, clip) for clip in clips]


def answer(process: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any] | Exception:
    """What ``process`` returns, or raises: a row of the ledger either way, so that no bad clip costs another."""
    try:
        return process(*given)
    except Exception as error:
        return error

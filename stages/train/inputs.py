"""What a run reads of a data set, and whether a data set can give it: columns, widths, makers, frame rate, attitudes.

A run records its `Inputs`; a data set whose columns were made otherwise is refused, with the column named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.dataset.read import columns_of, one_fitter, read_description, space_of
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from schemas.coefficients import ALL_ORDERS, NAMED_BY, Layout
from schemas.column import FRAME_AXIS, LISTENER, ROLES, other_role
from schemas.errors import UserError

ACOUSTIC, ACOUSTIC_WIDTH = "acoustic", 45
MIX, OWN = "mix", "own"  # whose sound is heard: both people's, or that of the one who is not predicted
TOKEN_AXIS, FRAME_TOKEN = "token", "frame_token"  # columns of tokens come to frames through the latter
ANEW = "train another run: python -m jobs.train DATASET --listener NAME --out RUN"
NO_LABEL = "unlabelled"  # the attitude of clips that have none


@dataclass(frozen=True)
class ColumnShape:
    """Element type of a column as Arrow names it, and its axes as `schemas.column.Column` writes them."""

    dtype: str
    axes: tuple[str | int, ...]

    @property
    def fixed(self) -> tuple[int, ...]:
        """The axes that every value has alike."""
        return tuple(axis for axis in self.axes if isinstance(axis, int))

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Origin:
    """Columns of one stage, and what identifies their numbers, in words: alike or not is all that is asked of it."""

    columns: tuple[str, ...]
    made: str


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes
    ----------
    order : layout of motion, a key of `schemas.coefficients.ALL_ORDERS`.
    extra : columns that go into ``Batch.extra``.
    attitudes : the vocabulary; a clip's attitude is its index.
    shapes : every column read -> its type and axes.
    makers : stage that made some of them -> which, and how.
    role : whose motion is predicted.
    own : the columns read of the other person's own sound, in place of those of both people's; ``shapes`` and ``extra``
        call them as if they were of both's.
    """

    order: str
    extra: tuple[str, ...]
    fps: int
    attitudes: tuple[str, ...]
    shapes: Mapping[str, ColumnShape]
    makers: Mapping[str, Origin]
    role: str = LISTENER
    own: tuple[str, ...] = ()

    @property
    def people(self) -> dict[str, str]:
        """Role of each person in a `Batch`, where ``listener`` is who is predicted -> role in the data set."""
        return {"speaker": other_role(self.role), "listener": self.role}

    @property
    def columns(self) -> list[str]:
        return [self.stored(name) for name in self.shapes]

    def stored(self, name: str) -> str:
        """The column of the data set behind one of ``shapes``."""
        return f"{other_role(self.role)}_{name}" if name in self.own else name

    @property
    def per_clip(self) -> frozenset[str]:
        """The extra columns that say something of the clip as a whole, not of its frames."""
        return frozenset(n for n in self.extra if self.shapes[n].axes[:1] not in ((FRAME_AXIS,), (TOKEN_AXIS,)))

    @property
    def layout(self) -> Layout:
        """Where the parts of a frame of motion stand."""
        return Layout(self.order, {part: self.shapes[f"speaker_{part}"].fixed[-1] for part in ALL_ORDERS[self.order]})


def inputs_of(
    roots: Sequence[Path], order: str, extra: Sequence[str], role: str = LISTENER, sound: str = MIX
) -> Inputs:
    """What a model of an order and for a role reads of some data sets, of both people's sound or the other's `OWN`.

    Raises
    ------
    UserError : a column is missing, the two people's differ in width, or the data sets do not fit each other.
    MixedCoefficientsError : their coefficients are not of one fitter.
    """
    one_fitter(roots)
    found = [replace(_inputs_of(root, order, tuple(extra)), role=role) for root in roots]
    if sound == OWN:
        found = [replace(one, own=_own(root, one)) for root, one in zip(roots, found, strict=True)]
    for root, other in zip(roots[1:], found[1:], strict=True):
        check_alike(root, other, found[0])
    return found[0]


def check_alike(root: Path, found: Inputs, wanted: Inputs) -> None:
    """Raise `UserError` unless a data set's columns mean what the run's did; it names those that differ."""
    if found.own != wanted.own:
        said = [", ".join(one.own) or "none" for one in (wanted, found)]
        raise UserError(f"{root}: columns of one person's own sound: expected {said[0]}, found {said[1]}; {ANEW}")
    for name, shape in wanted.shapes.items():
        if found.shapes[name] != shape:
            raise UserError(f"{root}: column {name!r}: expected {shape}, found {found.shapes[name]}; {ANEW}")
    for stage, maker in wanted.makers.items():
        if (other := found.makers.get(stage)) != maker:
            learned = f"the run learned from those that {stage!r} made with {maker.made}"
            made = f"{other.made if other else 'those of another stage'}; build the data set with the same settings"
            raise UserError(f"{root}: columns {', '.join(maker.columns)}: {learned}, found {made}, or {ANEW}")
    if found.fps != wanted.fps:
        raise UserError(f"{root}: expected {wanted.fps} frames a second, found {found.fps}; {ANEW}")


def _inputs_of(root: Path, order: str, extra: tuple[str, ...]) -> Inputs:
    description = read_description(root)
    motion = [f"{role}_{name}" for role in ROLES for name in ALL_ORDERS[order]]
    names = [*motion, *(f"{role}_coeffs_valid" for role in ROLES), ACOUSTIC, *extra]
    for name in extra:
        if name not in description.packed:
            raise UserError(f"{root}: its shards hold no column {name}; {_how_to_add(name)}")
    columns = columns_of(root, names)
    if any(TOKEN_AXIS in columns[name].axes for name in extra):
        columns |= columns_of(root, [FRAME_TOKEN])
    shapes = {name: ColumnShape(str(column.element_type), column.axes) for name, column in columns.items()}
    space = space_of(root)
    expected = {f"{role}_{part}": space.axes[part] for role in ROLES for part in ALL_ORDERS[order]}
    expected[ACOUSTIC] = (FRAME_AXIS, ACOUSTIC_WIDTH)
    for name, axes in expected.items():
        if shapes[name].axes != axes:
            wanted = f"expected axes {axes} for a listener of {space.name}'s coefficients"
            found = f"found {shapes[name].axes}; build the data set with one fitter"
            raise UserError(f"{root}: column {name!r}: {wanted}, {found}")
    for name in extra:
        if shapes[name].dtype not in ("bool", "int32", "int64", "float", "double"):
            found = f"a listener reads numbers, found {shapes[name]}"
            raise UserError(f"{root}: column {name!r}: {found}; take it out of its `reads`")
    makers = {}  # of coefficients the fitter with its weights, else version, settings and weights
    for stage, maker in description.stages.items():
        made = str({"version": maker.version, "settings": maker.settings, "weights": maker.weights})
        if columns := tuple(name for name, _ in maker.writes if name in shapes):
            makers[stage] = Origin(columns, str(space.made_by) if stage in NAMED_BY else made)
    return Inputs(order, extra, fps=description.fps, attitudes=description.attitudes, shapes=shapes, makers=makers)


def _own(root: Path, inputs: Inputs) -> tuple[str, ...]:
    """The columns read that there are of the other person's own sound too."""
    packed, other = read_description(root).packed, other_role(inputs.role)
    own = tuple(name for name in inputs.shapes if f"{other}_{name}" in packed)
    if ACOUSTIC not in own:
        found = f"found no column {other}_{ACOUSTIC}"
        how = "name each person's sound in the manifest (docs/sources.md), or train with --set sound=mix"
        raise UserError(f"{root}: sound=own: expected the {other}'s own sound, {found}; {how}")
    return own


def _how_to_add(column: str) -> str:
    """What to do where shards lack a column, in words: some stages run only where a manifest names them."""
    stage = Pipeline(find_stages(), {}).writer.get(column)
    if stage is None:
        return "add the stage that writes it with --stage FILE.py and build the data set again"
    manifest = f"its manifest's [stages.{stage}], an empty table if nothing is to be set"
    return f"name the stage that writes it in {manifest}, and build it again: python -m jobs.build MANIFEST --out DIR"

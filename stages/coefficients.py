"""Stage ``coefficients``: what your own tracker says of each face, in place of the stage ``threedmm``.

A file a clip and role, ``FOLDER/<clip_id>_<role>.npz`` (an array a column) or ``.npy`` (all columns side by side), with
a row a frame at a rate of your own. What the numbers are is declared (space, rate, unit, order and signs of the head's
angles), brought to the clip's frames, and checked against the landmarks that we find: a file in another order, sign,
unit or rate is rejected with what it looks like.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import Span, VideoTimes, map_to_grid, seconds_of
from pipeline.dataset.storage import lies_in
from pipeline.stage import Reject, Stage, Warned, setting
from schemas.coefficients import PARTS, SPACES
from schemas.column import FRAME_AXIS, ROLES, Column, both, other_role, per_role
from schemas.errors import UserError
from stages.morphable.heads import AXES, Judged, Reading, head_angles, judge

MAX_BYTES = 2**28  # of a file, unpacked: an hour of 64 numbers a frame is a tenth of it
RATES = (24, 25, 30, 50, 60)  # that films have, for who declared another
RADIANS, DEGREES = "rad", "deg"
IN_WORDS = {RADIANS: "radians", DEGREES: "degrees"}
HEAD = ("angle", "pose")  # columns whose first three numbers are the head's rotation
ENDINGS = (".npz", ".npy")
MEANINGS = {
    "angle": ": pitch, yaw, roll, > 0 looks down, turns to the right of the picture, lets the line of the eyes rise to "
    "the right",
    "pose": ": the neck's or head's rotation, then the jaw's, each an axis times an angle",
}
UNREADABLE = (ValueError, OSError, EOFError, KeyError, TypeError, SyntaxError, NotImplementedError, RuntimeError)


class Coefficients(Stage):
    """Coefficients of your own tracker, in a space that you declare: FLAME, FaceVerse, BFM, ARKit or another."""

    @dataclass(frozen=True)
    class Settings:
        folder: str = setting(
            "",
            "where the files are, seen from where a build runs: <clip_id>_speaker.npz, <clip_id>_listener.npz, or .npy",
        )
        space: str = setting("", f"what the numbers are: {', '.join(SPACES)}, or a name of your own with `parts`")
        fps: float = setting(0.0, "rows a second")
        parts: tuple[str, ...] = setting(
            (), "columns and widths, if not the space's: ['exp=52', 'angle=3']; in a .npy in this order"
        )
        keys: tuple[str, ...] = setting((), "arrays of a .npz that are not called as the columns: ['exp=expcode']")
        unit: str = setting(RADIANS, "of angles and pose", choices=(RADIANS, DEGREES))
        axes: tuple[str, ...] = setting(
            AXES,
            "what the head's three numbers are; '-yaw' where it counts the other way than the column's meaning says",
        )
        jaw_first: bool = setting(False, "whether pose is the jaw, then the neck")
        min_valid: float = setting(0.9, "share of a clip's frames that must hold numbers, for each role")

    opt_in = True
    rejects = {
        "no_file": "there is no file of either person",
        "half_pair": "there is a file of one person alone",
        "unreadable": "a file is no .npz or .npy of numbers, holds a pickle, or lies outside the folder",
        "wrong_shape": "a file holds other columns or widths than declared",
        "wrong_length": "a file has other rows than the clip has frames at the declared rate",
        "not_finite": "a role has numbers in fewer than min_valid of the frames",
        "not_moving": "the numbers of a role are the same in all frames",
        "wrong_head": "the head's angles follow the landmarks in another order, sign, unit or rate than declared",
    }
    warnings = {"another_head": "the head's angles do not follow the landmarks, and in no other way clearly better"}

    def reads(self) -> tuple[str, ...]:
        return ("source_damaged", *both("{role}_landmarks", "{role}_landmarks_valid"))

    def writes(self) -> tuple[Column, ...]:
        if not self.settings.space:
            return ()
        space = self.settings.space
        columns = [
            Column(
                f"{{role}}_{part}", "float32", (FRAME_AXIS, width), "rad" if part in HEAD else "1",
                f"{part} of the {{role}} ({space}, own tracker){MEANINGS.get(part, '')}; NaN where not valid",
            )
            for part, width in self._widths.items()
        ]  # fmt: skip
        valid = Column("{role}_coeffs_valid", "bool", (FRAME_AXIS,), meaning="whether the {role} was fitted in a frame")
        return per_role(*columns, valid)

    def weights(self) -> tuple[str, ...]:
        """The folder: its files enter the fingerprint, so that others are read anew."""
        said = self.settings
        if missing := [name for name in ("folder", "space", "fps") if not getattr(said, name)]:
            raise UserError(f"[stages.coefficients]: expected {', '.join(missing)}, found none; say what the files are")
        if not 1 <= said.fps <= 1000:
            raise UserError(f"[stages.coefficients] fps: found {said.fps:g}, allowed: 1 to 1000 rows a second")
        self._declared, self._keys  # noqa: B018 - refuse what is declared wrongly before any clip is read
        return (said.folder if "/" in said.folder else f"./{said.folder}",)

    def setup(self, device: str) -> None:
        from stages.morphable.basis import load_basis

        self._basis = load_basis()

    def process(self, clip: Clip) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        strangers = []
        for role, path in self._files(clip).items():
            values, rate = self._read(path, role), Fraction(self.settings.fps).limit_denominator(1001)
            self._check_length(role, len(values), clip.num_frames, rate)
            whole = self._canonical(values)
            with np.errstate(over="ignore"):  # what a float32 cannot hold is not finite either
                rows = on_grid(whole, clip.num_frames, rate).astype(np.float32)
            valid = np.isfinite(rows).all(axis=1) & ~clip["source_damaged"]
            if valid.mean() < self.settings.min_valid or not valid.any():
                wanted = f"expected at least {self.settings.min_valid:.1%}"
                raise Reject("not_finite", f"{role}: numbers in {valid.mean():.1%} of {len(valid)} frames, {wanted}")
            if not np.ptp(rows[valid], axis=0).any():
                raise Reject("not_moving", f"{role}: one row in all {len(valid)} frames")
            if self._head is not None:
                points = np.where(clip[f"{role}_landmarks_valid"][:, None, None], clip[f"{role}_landmarks"], np.nan)
                judged = self._check_head(role, whole[:, self._head], rows[:, self._head], points, rate)
                strangers += [f"{role}: r {judged.declared:.2f}"] if judged.is_another else []
            kept = np.where(valid[:, None], rows, np.float32(np.nan))
            columns |= {f"{role}_{part}": kept[:, place] for part, place in self._places.items()}
            columns[f"{role}_coeffs_valid"] = valid
        named = {column.name: columns[column.name] for column in self.writes()}
        return Warned(named, "another_head", "; ".join(strangers)) if strangers else named

    # -- what was declared -------------------------------------------------------------------------------------------

    @cached_property
    def _widths(self) -> Mapping[str, int]:
        """Column -> its width, in the order of a row."""
        space, parts = self.settings.space, self.settings.parts
        if not parts and space not in SPACES:
            known = f"known: {', '.join(SPACES)}; or give the columns of your own: parts = ['exp=52', 'angle=3']"
            raise UserError(f"[stages.coefficients] space: found {space!r}; {known}")
        if not parts:
            return SPACES[space]
        allowed = [part for part in PARTS if part not in ("identity", "crop")]
        found = {}
        for part in parts:
            name, _, width = part.partition("=")
            wanted = {"angle": 3, "trans": 3, "pose": 6}.get(name)
            if (
                name not in allowed
                or not width.isdecimal()
                or not 0 < int(width) <= 1024
                or int(width) != (wanted or int(width))
            ):
                told = f"allowed: {', '.join(allowed)}, each with its width: 'exp=52'; angle and trans have 3, pose 6"
                raise UserError(f"[stages.coefficients] parts: found {part!r}, {told}")
            found[name] = int(width)
        if "exp" not in found or len(found) < len(parts) or {"angle", "pose"} <= found.keys():
            wanted = "expected exp, one of angle and pose at most, and each once"
            raise UserError(f"[stages.coefficients] parts: {wanted}, found {', '.join(parts)}")
        return found

    @cached_property
    def _places(self) -> dict[str, slice]:
        """Column -> where it stands in a row."""
        ends = np.cumsum([*self._widths.values()]).tolist()
        return {part: slice(end - width, end) for (part, width), end in zip(self._widths.items(), ends, strict=True)}

    @cached_property
    def _head(self) -> slice | None:
        """Where the head's three numbers stand in a row; None where there are none."""
        start = next((self._places[part].start for part in HEAD if part in self._places), None)
        return None if start is None else slice(start, start + 3)

    @cached_property
    def _declared(self) -> Reading:
        """How the file's three numbers are to be read."""
        axes = self.settings.axes
        names = [axis.removeprefix("-") for axis in axes]
        if sorted(names) != sorted(AXES):
            raise UserError(f"[stages.coefficients] axes: found {list(axes)}, expected {', '.join(AXES)} in some order")
        places = tuple(names.index(axis) for axis in AXES)
        return Reading(places, tuple(-1 if axes[place].startswith("-") else 1 for place in places))

    @cached_property
    def _keys(self) -> dict[str, str]:
        """Column -> the array of a .npz that holds it."""
        given = dict(key.partition("=")[::2] for key in self.settings.keys)
        if strange := given.keys() - self._widths.keys():
            raise UserError(
                f"[stages.coefficients] keys: found {', '.join(sorted(strange))}, allowed: {', '.join(self._widths)}"
            )
        return {part: given.get(part) or part for part in self._widths}

    # -- files -------------------------------------------------------------------------------------------------------

    def _files(self, clip: Clip) -> dict[str, Path]:
        """The file of each person."""
        folder = Path(self.settings.folder)
        found = {}
        for role in ROLES:
            names = [folder / f"{clip.clip_id}_{role}{ending}" for ending in ENDINGS]
            there = [path for path in names if path.is_file()]
            if len(there) == 2:
                raise Reject("unreadable", f"{role}: expected one of {names[0].name} and {names[1].name}, found both")
            if there:
                found[role] = there[0]
        if clip.has_portrait:
            raise Reject("half_pair", "the clip has a picture of its listener and no film of it")
        for role in ROLES:
            if role not in found:
                reason = "half_pair" if other_role(role) in found else "no_file"
                raise Reject(reason, f"{role}: expected {folder / clip.clip_id}_{role}.npz or .npy, found none")
            if not lies_in(found[role], folder):
                raise Reject("unreadable", f"{role}: {found[role]} is a link that leads out of the folder")
        return found

    def _read(self, path: Path, role: str) -> np.ndarray:
        """All columns of a file side by side, float64 (row, column)."""
        arrays = _arrays(path, role)
        if len(arrays) == 1:
            ((name, whole),) = arrays.items()
            self._check_shape(role, name, whole, sum(self._widths.values()), f"{' '.join(self._widths)} side by side")
            return whole.astype(np.float64)
        found = []
        for part, key in self._keys.items():
            if key not in arrays:
                wanted = f"expected an array {key!r}, found {', '.join(sorted(arrays))}; [stages.coefficients] keys"
                raise Reject("wrong_shape", f"{role}: {wanted}")
            self._check_shape(role, key, arrays[key], self._widths[part], part)
            found.append(arrays[key].astype(np.float64))
        if len({len(array) for array in found}) > 1:
            told = ", ".join(f"{part} {len(array)}" for part, array in zip(self._widths, found, strict=True))
            raise Reject("wrong_length", f"{role}: expected columns of one length, found rows of {told}")
        return np.concatenate(found, axis=1)

    def _check_shape(self, role: str, name: str, array: np.ndarray, width: int, what: str) -> None:
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in "fiu":
            wanted = f"expected numbers (row, {width}) of {self.settings.space}: {what}"
            raise Reject("wrong_shape", f"{role}: {name}: {wanted}, found {array.dtype} {array.shape}")

    def _check_length(self, role: str, found: int, num_frames: int, rate: Fraction) -> None:
        """A tracker may have rounded the end up or down, no more."""
        seconds = seconds_of(num_frames)
        if abs(found - seconds * rate) < 1:
            return
        as_at = [f"{other} fps" for other in RATES if abs(found - seconds * other) < 1]
        looks = f": it looks like {' or '.join(as_at)}" if as_at else ""
        wanted = f"expected {float(seconds * rate):g} for {float(seconds):.2f} s at {float(rate):g} fps"
        raise Reject("wrong_length", f"{role}: {found} rows, {wanted}{looks}")

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _canonical(self, values: np.ndarray) -> np.ndarray:
        """Rows as the columns mean them: in radians, neck before jaw, the head as pitch, yaw, roll."""
        rows = values.copy()
        if "pose" in self._places and self.settings.jaw_first:
            rows[:, self._places["pose"]] = np.roll(rows[:, self._places["pose"]], 3, axis=1)
        if self._head is not None:
            rows[:, self._head] = self._declared.of(rows[:, self._head])
        if self.settings.unit == DEGREES:
            for part in HEAD:
                if part in self._places:
                    rows[:, self._places[part]] = np.radians(rows[:, self._places[part]])
        return rows

    def _check_head(self, role: str, whole: np.ndarray, told: np.ndarray, points: np.ndarray, rate: Fraction) -> Judged:
        """Compare the head's angles with the landmarks'; ``whole`` has the file's own rows."""
        seen = head_angles(points, self._basis)
        judged = judge(told, seen)
        faults, next_ = judged.reading.differences(judged.moving), []
        for unit, is_wrong, other in ((RADIANS, judged.unit > 0, DEGREES), (DEGREES, judged.unit < 0, RADIANS)):
            if self.settings.unit == unit and is_wrong:
                faults.append(f"the angles look like {IN_WORDS[other]}")
                next_.append(f"unit = '{other}'")
        if judged.reading != Reading():
            next_.append(f"axes = {judged.reading.in_words(self._declared)}")
        others = {other: judge(on_grid(whole, len(seen), Fraction(other)), seen) for other in RATES if other != rate}
        nearest = max(others, key=lambda other: np.nan_to_num(others[other].declared))
        follows = others[nearest].declared
        if judged.leads(follows) and follows > judged.best:
            faults, next_ = [f"rows look like {nearest} fps"], [f"fps = {nearest}"]
        if faults:
            told_so = f"r {judged.declared:.2f} as declared, {judged.best:.2f} at best"
            raise Reject(
                "wrong_head", f"{role}: {'; '.join(faults)} ({told_so}): [stages.coefficients] {', '.join(next_)}"
            )
        return judged


def on_grid(values: np.ndarray, num_frames: int, rate: Fraction) -> np.ndarray:
    """The row nearest in time to every frame of a clip, by the rule of `pipeline.clock.map_to_grid`."""
    times = VideoTimes(np.arange(len(values), dtype=np.int64), 1 / rate, Fraction(0))
    return values[map_to_grid(Span(Fraction(0), seconds_of(num_frames)), times).source_frame]


def _arrays(path: Path, role: str) -> dict[str, np.ndarray]:
    """The arrays of a file, by name; `Reject` for what is none, is too large or would have to run code."""
    try:
        size = path.stat().st_size
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as packed:
                size = sum(member.file_size for member in packed.infolist())
        if size > MAX_BYTES:
            raise Reject("unreadable", f"{role}: {path.name}: expected {MAX_BYTES} bytes at most, found {size}")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.name: loaded}
        with loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    except (*UNREADABLE, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        told = f"expected arrays of numbers, saved without pickle: {type(error).__name__}: {error}"
        raise Reject("unreadable", f"{role}: {path.name}: {told}") from None

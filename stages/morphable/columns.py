"""What each fitter writes: the columns of both roles, with units and the meaning of their numbers.

Identity is not called ``{role}_id``, as in Deep3DFaceRecon: that is the manifest's name for the person.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.column import FRAME_AXIS, Column, per_role

_OF_DEEP3D = "Deep3DFaceRecon, BFM09"
_WINDOW = "scaled by s around (tx, ty) the picture becomes Deep3DFaceRecon's window of 224 px"
_TO_VIEWER = "x right, y up, z to the viewer"


@dataclass(frozen=True)
class _Written:
    """What the columns that all fitters share hold for one of them."""

    numbers: str
    identity: tuple[str | int, ...]
    expression: int
    trans: str
    trans_unit: str
    crop: str


_WRITTEN = {
    "landmark_gn": _Written(
        "landmark_gn; in our own bases 1 moves the points by 1 mm in root mean square",
        (80,),
        64,
        f"{_TO_VIEWER}; decimetres of an average head",
        "dm",
        f"{_WINDOW}; one for the clip, so that all motion is in trans",
    ),
    "deep3d": _Written(_OF_DEEP3D, (FRAME_AXIS, 80), 64, _TO_VIEWER, "dm", _WINDOW),
    "tddfa_v2": _Written(
        "3DDFA_V2, BFM, not whitened",
        (FRAME_AXIS, 40),
        10,
        "of its pose matrix, in its window of 120 px",
        "px",
        "scaled by s around (tx, ty) the picture becomes that window",
    ),
}


def columns_of(fitter: str) -> tuple[Column, ...]:
    """The columns that a fitter writes."""
    own = _WRITTEN[fitter]
    columns = (
        _frames("exp", own.expression, "1", f"expression of the {{role}} ({own.numbers})"),
        _frames(
            "angle",
            3,
            "rad",
            "pitch, yaw, roll of the {role}'s head: > 0 looks down, turns to the right of the picture, lets the line "
            "of the eyes rise to the right",
        ),
        _frames("trans", 3, own.trans_unit, f"translation of the {{role}}'s head: {own.trans}"),
        _frames("crop", 3, "1, px, px", f"(s, tx, ty) of the {{role}}, y up: {own.crop}"),
        Column("{role}_identity", "float32", own.identity, "1", f"identity of the {{role}} ({own.numbers})"),
        Column("{role}_coeffs_valid", "bool", (FRAME_AXIS,), meaning="whether the {role} was fitted in a frame"),
    )
    return per_role(*columns, *(_TEXTURE if fitter == "deep3d" else ()))


def _frames(name: str, width: int, unit: str, meaning: str) -> Column:
    return Column(f"{{role}}_{name}", "float32", (FRAME_AXIS, width), unit, f"{meaning}; NaN where not valid")


_TEXTURE = (
    _frames("tex", 80, "1", f"texture of the {{role}} ({_OF_DEEP3D})"),
    _frames("gamma", 27, "1", "light on the {role}: 9 spherical harmonics for each of R, G and B"),
)

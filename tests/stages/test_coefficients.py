"""Stage ``coefficients``: other people's trackers, right and with every fault that there is to plant."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clip import Clip
from pipeline.clock import frames_at
from pipeline.plan import Pipeline, select
from pipeline.registry import find_stages
from pipeline.stage import Reject, Warned
from schemas.coefficients import SPACES, Provenance, Space
from schemas.column import ROLES
from schemas.errors import UserError
from stages import coefficients
from stages.coefficients import Coefficients, on_grid
from stages.morphable.basis import load_basis
from stages.morphable.heads import AXES, Reading, head_angles, judge
from tests.labs.morphable import clip_of, moving_face, rotation_error_deg

FRAMES = 240
CLIP = "source_0_8"
EXPRESSION = 50


@pytest.fixture(scope="module")
def faces() -> dict[str, Any]:
    return {role: moving_face(FRAMES, seed) for seed, role in enumerate(ROLES)}


@pytest.fixture(scope="module")
def points(faces) -> dict[str, np.ndarray]:
    return {role: face.landmarks(load_basis(), noise_px=1.0) for role, face in faces.items()}


@pytest.fixture
def clip(points, tmp_path) -> Clip:
    return clip_of(points, tmp_path, CLIP)


def rows_of(face: Any, fps: int = 30) -> np.ndarray:
    """What a tracker of FLAME would say at a rate: expression 50, neck 3, jaw 3, with its own small noise."""
    rng = np.random.default_rng(1)
    jaw = np.abs(face.expression[:, :1]) * [1.0, 0, 0]
    rows = np.concatenate([face.expression[:, :EXPRESSION], face.angle, jaw], axis=1)
    instants, own = np.arange(frames_at(FRAMES, fps).size) / fps, np.arange(FRAMES) / 30
    rows = np.stack([np.interp(instants, own, column) for column in rows.T], axis=1)
    return rows + rng.normal(scale=0.003, size=rows.shape)


def save(folder: Path, arrays: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for role, rows in arrays.items():
        np.save(folder / f"{CLIP}_{role}.npy", rows)
    return folder


def stage(own: Path, **settings: Any) -> Coefficients:
    said = {"folder": f"{own}/", "space": "flame", "fps": 30.0, **settings}
    made = Coefficients(Coefficients.Settings(**said))
    made.weights()
    made.setup("cpu")
    return made


def test_the_landmarks_of_a_turned_head_say_how_it_is_turned(faces, points) -> None:
    for role, face in faces.items():
        found = head_angles(points[role], load_basis())
        assert rotation_error_deg(found, face.angle).max() < 5  # a face that is not the mean one is off by a constant
        assert np.degrees((found - face.angle).std(axis=0)).max() < 1


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_rows_come_to_the_frames_nearest_in_time(fps: int, faces, clip, tmp_path) -> None:
    rows = {role: rows_of(face, fps) for role, face in faces.items()}
    found = stage(save(tmp_path / "own", rows), fps=float(fps)).process(clip)
    for role in ROLES:
        apart = np.abs(30 * np.arange(len(rows[role])) - fps * np.arange(FRAMES)[:, None])  # of instants, in 1/30/fps s
        nearest = apart.argmin(axis=1)  # of two equally near ones the earlier
        wanted = rows[role][nearest].astype(np.float32)
        np.testing.assert_array_equal(found[f"{role}_exp"].astype(np.float32), wanted[:, :50])
        np.testing.assert_array_equal(found[f"{role}_pose"].astype(np.float32), wanted[:, 50:])
        assert found[f"{role}_coeffs_valid"].all()
    assert [*found] == [column.name for column in stage(tmp_path / "own").writes()]


def test_an_archive_of_named_arrays_gives_the_same_as_one_array(faces, clip, tmp_path) -> None:
    rows = {role: rows_of(face) for role, face in faces.items()}
    plain = stage(save(tmp_path / "own", rows)).process(clip)
    (tmp_path / "named").mkdir()
    for role, values in rows.items():
        jaw_first = np.degrees(np.concatenate([values[:, 53:], values[:, 50:53]], axis=1))
        np.savez(tmp_path / "named" / f"{CLIP}_{role}.npz", expcode=values[:, :50], pose=jaw_first, shape=np.zeros(100))
    named = stage(tmp_path / "named", keys=("exp=expcode",), jaw_first=True, unit="deg").process(clip)
    for name, values in plain.items():
        np.testing.assert_allclose(named[name], values, atol=1e-6)


DECLARED: dict[str, dict[str, Any]] = {
    "yaw, pitch, roll": {"axes": ("yaw", "pitch", "roll")},
    "yaw the other way": {"axes": ("pitch", "-yaw", "roll")},
    "all at once": {"axes": ("-roll", "pitch", "-yaw"), "unit": "deg"},
}


def written_as(rows: np.ndarray, axes: tuple[str, ...] = AXES, unit: str = "rad") -> np.ndarray:
    """Rows of which the head's numbers stand in another order, sign and unit."""
    changed = rows.copy()
    for place, axis in enumerate(axes):
        changed[:, 50 + place] = rows[:, 50 + AXES.index(axis.removeprefix("-"))] * (-1 if axis[0] == "-" else 1)
    if unit == "deg":
        changed[:, 50:] = np.degrees(changed[:, 50:])
    return changed


@pytest.mark.parametrize("name", DECLARED)
def test_a_file_that_is_declared_as_it_is_comes_in_alike_whatever_its_order_sign_and_unit(
    name: str, faces, clip, tmp_path
) -> None:
    declared = DECLARED[name]
    rows = {role: written_as(rows_of(face), **declared) for role, face in faces.items()}
    found = stage(save(tmp_path / "own", rows), **declared).process(clip)
    np.testing.assert_allclose(found["speaker_pose"], rows_of(faces["speaker"])[:, 50:], atol=1e-6)


PLANTED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str]] = {  # what is wrong, the reason, and its words
    "swapped": (
        lambda rows: written_as(rows, ("yaw", "pitch", "roll")),
        "wrong_head",
        r"pitch and yaw look swapped .*axes = \['yaw', 'pitch', 'roll'\]",
    ),
    "all three moved on": (
        lambda rows: written_as(rows, ("roll", "pitch", "yaw")),
        "wrong_head",
        r"pitch stands where yaw should.*axes = \['roll', 'pitch', 'yaw'\]",
    ),
    "wrong sign": (
        lambda rows: written_as(rows, ("pitch", "-yaw", "roll")),
        "wrong_head",
        r"yaw looks wrong in sign .*axes = \['pitch', '-yaw', 'roll'\]",
    ),
    "degrees": (lambda rows: written_as(rows, unit="deg"), "wrong_head", r"look like degrees.* unit = 'deg'"),
    "degrees, swapped": (
        lambda rows: written_as(rows, ("yaw", "pitch", "roll"), "deg"),
        "wrong_head",
        r"swapped; the angles look like degrees.*unit = 'deg', axes = \['yaw'",
    ),
    "a frame short": (lambda rows: rows[:-1], "wrong_length", r"239 rows, expected 240 for 8.00 s at 30 fps"),
    "ten too long": (lambda rows: np.concatenate([rows, rows[:10]]), "wrong_length", r"250 rows, expected 240"),
    "a run of NaN": (
        lambda rows: np.where(np.arange(FRAMES)[:, None] < 60, np.nan, rows),
        "not_finite",
        r"numbers in 75.0% of 240 frames, expected at least 90.0%",
    ),
    "too large for the column": (
        lambda rows: np.where(np.arange(FRAMES)[:, None] < 60, 1e300, rows),
        "not_finite",
        r"numbers in 75.0% of 240 frames",
    ),
    "still": (lambda rows: np.repeat(rows[:1], FRAMES, axis=0), "not_moving", r"one row in all 240 frames"),
    "another space": (lambda rows: rows[:, :55], "wrong_shape", r"expected numbers \(row, 56\) of flame.* \(240, 55\)"),
    "words": (lambda rows: rows.astype(str), "wrong_shape", r"expected numbers"),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named_and_whose_file_has_it(name: str, role: str, faces, clip, tmp_path) -> None:
    change, reason, words = PLANTED[name]
    rows = {role: rows_of(face) for role, face in faces.items()}
    rows[role] = change(rows[role])
    with pytest.raises(Reject, match=rf"{role}: .*{words}") as found:
        stage(save(tmp_path / "own", rows)).process(clip)
    assert found.value.reason == reason


def test_a_rate_that_was_declared_wrongly_is_named_by_the_length(faces, clip, tmp_path) -> None:
    folder = save(tmp_path / "own", {role: rows_of(face, 25) for role, face in faces.items()})
    with pytest.raises(Reject, match=r"200 rows, expected 240 .* at 30 fps: it looks like 25 fps") as found:
        stage(folder).process(clip)
    assert found.value.reason == "wrong_length"


def test_a_rate_that_was_declared_wrongly_is_named_by_the_head_where_the_length_fits(faces, clip, tmp_path) -> None:
    rows = {role: rows_of(face, 25) for role, face in faces.items()}
    folder = save(tmp_path / "own", {role: np.resize(values, (FRAMES, 56)) for role, values in rows.items()})
    with pytest.raises(Reject, match=r"speaker: rows look like 25 fps .*fps = 25") as found:
        stage(folder).process(clip)
    assert found.value.reason == "wrong_head"


def test_radians_declared_as_degrees_are_named(faces, clip, tmp_path) -> None:
    folder = save(tmp_path / "own", {role: rows_of(face) for role, face in faces.items()})
    with pytest.raises(Reject, match=r"look like radians .*unit = 'rad'"):
        stage(folder, unit="deg").process(clip)


def test_a_head_that_is_another_one_is_warned_of(faces, clip, tmp_path) -> None:
    other = rows_of(moving_face(FRAMES, 9))
    found = stage(save(tmp_path / "own", {"speaker": rows_of(faces["speaker"]), "listener": other})).process(clip)
    assert isinstance(found, Warned) and found.reason == "another_head" and found.detail.startswith("listener: r ")


def test_a_head_that_moves_little_is_judged_by_stronger_evidence() -> None:
    rng = np.random.default_rng(0)
    little, much = (rng.normal(size=(200, 3)) * size for size in (0.03, 0.1))
    noise = rng.normal(size=(200, 3))
    for seen, deviation in ((little, 0.03), (much, 0.1)):
        swapped = seen[:, [1, 0, 2]]
        assert judge(swapped, seen).reading.differences((0, 1, 2)) == ["pitch and yaw look swapped"]
        blurred = judge(swapped + 0.7 * deviation * noise, seen)  # r about .8
        assert (blurred.reading == Reading()) == (seen is little)


def test_a_head_that_keeps_still_is_not_judged(faces, tmp_path) -> None:
    still = {role: np.repeat(face.landmarks(load_basis())[:1], FRAMES, axis=0) for role, face in faces.items()}
    rows = {role: written_as(rows_of(face), ("yaw", "-roll", "pitch")) for role, face in faces.items()}
    found = stage(save(tmp_path / "own", rows)).process(clip_of(still, tmp_path, CLIP))
    assert not isinstance(found, Warned)


def test_frames_without_numbers_or_landmarks_do_not_count(faces, points, tmp_path) -> None:
    seen = {role: np.where(np.arange(FRAMES)[:, None, None] % 7, values, np.nan) for role, values in points.items()}
    rows = {role: np.where(np.arange(FRAMES)[:, None] % 20 == 0, np.nan, rows_of(face)) for role, face in faces.items()}
    found = stage(save(tmp_path / "own", rows)).process(clip_of(seen, tmp_path, CLIP))
    np.testing.assert_array_equal(found["speaker_coeffs_valid"], np.arange(FRAMES) % 20 != 0)
    np.testing.assert_array_equal(np.isnan(found["speaker_pose"]).all(axis=1), np.arange(FRAMES) % 20 == 0)


class Run:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_bad_files_are_rejected_with_what_is_wrong_and_no_pickle_is_run(faces, clip, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(coefficients, "MAX_BYTES", 2**20)
    good = {role: rows_of(face) for role, face in faces.items()}
    trap = Run(tmp_path / "sprung")

    def with_listener(name: str, write: Callable[[Path], object], ending: str = ".npy") -> Path:
        folder = save(tmp_path / name, {"speaker": good["speaker"]})
        write(folder / f"{CLIP}_listener{ending}")
        return folder

    np.save(tmp_path / "elsewhere.npy", good["listener"])
    objects = np.empty((FRAMES, 56), object)
    objects[0, 0] = trap
    bad = {
        "half": (save(tmp_path / "half", {"speaker": good["speaker"]}), "half_pair", "listener: .*found none"),
        "none": (save(tmp_path / "none", {}), "no_file", "speaker: expected"),
        "pickle": (with_listener("a", lambda p: p.write_bytes(pickle.dumps(trap))), "unreadable", "without pickle"),
        "objects": (with_listener("b", lambda p: np.save(p, objects)), "unreadable", "without pickle"),
        "packed": (with_listener("c", lambda p: np.savez(p, exp=objects), ".npz"), "unreadable", "without pickle"),
        "cut": (with_listener("d", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00v")), "unreadable", "listener: "),
        "no zip": (with_listener("e", lambda p: p.write_bytes(b"PK"), ".npz"), "unreadable", "listener: "),
        "out": (with_listener("f", lambda p: p.symlink_to(tmp_path / "elsewhere.npy")), "unreadable", "leads out"),
        "large": (
            with_listener("g", lambda p: np.savez_compressed(p, np.zeros(2**17)), ".npz"),
            "unreadable",
            "at most",
        ),
        "unnamed": (
            with_listener("h", lambda p: np.savez(p, exp=good["listener"][:, :50], poses=good["listener"]), ".npz"),
            "wrong_shape",
            "expected an array 'pose', found exp, poses",
        ),
        "two lengths": (
            with_listener(
                "i", lambda p: np.savez(p, exp=good["listener"][:9, :50], pose=good["listener"][:, 50:]), ".npz"
            ),
            "wrong_length",
            "exp 9, pose 240",
        ),
    }
    for name, (folder, reason, words) in bad.items():
        with pytest.raises(Reject, match=words) as found:
            stage(folder).process(clip)
        assert found.value.reason == reason, name
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fps": 0.0}, "expected fps, found none"),
        ({"fps": -25.0}, "found -25, allowed: 1 to 1000"),
        ({"folder": ""}, "expected folder"),
        ({"space": "decca"}, "found 'decca'; known: flame, faceverse, bfm, arkit; or give"),
        ({"space": "mine", "parts": ("exp=52", "angle=4")}, "found 'angle=4', allowed"),
        ({"space": "mine", "parts": ("angle=3",)}, "expected exp"),
        ({"space": "mine", "parts": ("exp=5", "nose=3")}, "found 'nose=3', allowed: exp, angle, trans, pose"),
        ({"axes": ("pitch", "yaw")}, "expected pitch, yaw, roll in some order"),
        ({"keys": ("nose=a",)}, "found nose, allowed: exp, pose"),
    ],
)
def test_what_is_declared_wrongly_is_refused_before_a_file_is_read(settings, words, tmp_path) -> None:
    with pytest.raises(UserError, match=words):
        stage(tmp_path, **settings)


@pytest.mark.parametrize(
    ("space", "parts", "order"),
    [
        ("flame", (), "exp_pose"), ("faceverse", (), "paper70"), ("bfm", (), "paper70"), ("arkit", (), "exp_alone"),
        ("arkit", ("exp=52", "angle=3"), "exp_angle"), ("mine", ("exp=7", "angle=3", "trans=3"), "paper70"),
    ],
)  # fmt: skip
def test_every_space_has_an_order_that_holds_all_its_motion(space: str, parts: tuple[str, ...], order: str) -> None:
    columns = Coefficients(Coefficients.Settings("own/", space, 30.0, parts)).writes()
    axes = {column.name.removeprefix("speaker_"): column.axes for column in columns if column.name[0] == "s"}
    del axes["coeffs_valid"]
    assert Space(Provenance(space, 1, ()), axes).order == order
    widths = {part: shape[-1] for part, shape in axes.items()}
    assert widths == (dict(SPACES[space]) if not parts else {p.split("=")[0]: int(p.split("=")[1]) for p in parts})


def test_a_manifest_that_names_the_stage_has_it_in_place_of_our_own_fit() -> None:
    settings = {"coefficients": {"folder": "own/", "space": "flame", "fps": 25}}
    pipeline = Pipeline(select(find_stages(), None, settings), settings)
    names = [made.name for made in pipeline.stages]
    assert "coefficients" in names and "threedmm" not in names
    assert pipeline.writer["listener_exp"] == "coefficients"
    assert "threedmm" in [code.name for code in select(find_stages(), None, {})]
    with pytest.raises(UserError, match="written by both"):
        Pipeline(select(find_stages(), None, {**settings, "threedmm": {}}), settings)


def test_rates_with_a_fraction_follow_the_same_rule() -> None:
    rows = np.arange(300)[:, None]
    found = on_grid(rows, 300, Fraction(30_000, 1001))[:, 0]
    wanted = [round(k / 30 * 30_000 / 1001) for k in range(300)]
    np.testing.assert_array_equal(found, wanted)

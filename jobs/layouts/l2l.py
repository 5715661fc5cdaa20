"""Learning2Listen's layout (Ng et al., CVPR 2022): DECA's coefficients of two people in windows of 64 frames, 30 fps.

Below ``data/<name>/{train,test}/`` stand, for who sits left (p0) and right (p1), of windows in which p0 listens
``p0_list_faces_clean_deca.npy`` and ``p1_speak_faces_clean_deca.npy`` (window, 64, 184),
``p1_speak_audio_clean_deca.npy`` (window, 256, 128), four rows of a mel spectrogram a frame, and
``p1_speak_files_clean_deca.npy`` (window, 64, 3), names; and the same with p0 and p1 exchanged. Of the 184 numbers the
public loader reads 50 of expression and 6 of pose; the others, DECA's details, are a column when they come in, and
zeros when a data set goes out that has none. Names of files, if saved without pickle, are a column too; a data set
without them puts clip, source and frame in their place.

Its spectrogram's definition is not published. Ours: 48 kHz, a window of 2048 samples, 400 samples a row, 128 bands
after Slaney, the natural logarithm of the power plus 1e-5.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from jobs.layouts import Layout, Moved, Row, staged
from jobs.layouts.motion.sound import sound_of
from jobs.layouts.motion.spaces import FLAME, WIDTHS, columns_in, finite, maker_of, require_space
from pipeline.clock import FPS, seconds_of
from pipeline.dataset.read import read_clips, read_description
from pipeline.dataset.storage import Location
from pipeline.dataset.write import write_dataset
from schemas.clip import SPLITS
from schemas.column import FRAME_AXIS, Column, per_role
from schemas.dataset import IMPORTED
from schemas.errors import UserError

WINDOW = 64  # frames
WIDTH, EXPRESSION, READ = 184, WIDTHS[FLAME]["exp"], sum(WIDTHS[FLAME].values())  # READ: by the public loader
ROWS_A_FRAME, BANDS = 4, 128
RATE_HZ, HOP, FFT = 48_000, 400, 2048
MEL = Column("speaker_mel", "float32", (FRAME_AXIS, ROWS_A_FRAME, BANDS), "1", "mel spectrogram of Learning2Listen")
DETAILS = per_role(Column("{role}_details", "float32", (FRAME_AXIS, WIDTH - READ), "1", "DECA's details of the {role}"))
FILES = Column(
    "speaker_files", "string", meaning='three names a frame of Learning2Listen\'s files, as JSON; "" for none'
)
PEOPLE = {"left": 0, "right": 1}  # side -> number of who sits there


class L2L(Layout):
    """A window is a clip when it comes in; on its way out a clip is cut into windows and its rest is left."""

    reads = writes = "train/ and test/ with p0 and p1, list and speak: faces, audio, files as .npy"
    loses = (
        "labels, films, sound (a mel spectrogram stands for it), all other columns, a clip's rest of under 64 frames"
    )
    space = FLAME

    def read(self, folder: Path, out: Path) -> Moved:
        """Write the windows of a folder as a data set, which holds numbers and no films.

        `UserError` if there are none, or the arrays of a pair do not belong together: no other pair tells then which
        window is whose.
        """
        moved = Moved(next=f"python -m jobs.check {quote(str(out))}")
        rows: list[dict[str, Any]] = []
        for split in SPLITS:
            for side, speaker in PEOPLE.items():
                if any((folder / split).glob(f"p{speaker}_speak_*")):
                    try:
                        rows += _read_windows(folder / split, split, side)
                    except UserError as error:
                        moved.problems.append(str(error))
        if not rows:
            expected = "train/p1_speak_faces_clean_deca.npy and its like"
            raise UserError(f"{folder}: expected {expected}, found none that can be read {'; '.join(moved.problems)}")
        columns = [*columns_in(FLAME), *DETAILS, MEL, FILES]
        write_dataset(out, rows, columns, name=folder.name, kind=IMPORTED, stages=maker_of(FLAME))
        moved.clips = [row["clip_id"] for row in rows]
        return moved

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the windows of a data set; `UserError` if its coefficients are not FLAME's."""
        columns = require_space(dataset, self.name, self.space)
        packed = read_description(dataset).packed
        sound = next((name for name in (MEL.name, "speaker_audio", "audio") if name in packed), None)
        if sound is None:
            raise UserError(
                f"{dataset}: expected a column audio, found {', '.join(packed)}; build it with the stage clip"
            )
        kept = [column.name for column in (*DETAILS, FILES) if column.name in packed]
        moved = Moved()
        windows: dict[str, list[np.ndarray]] = defaultdict(list)  # file -> windows of clips
        for row in read_clips(dataset, [*columns, sound, *kept]):
            try:
                for name, values in _windows_of(dataset, row, sound).items():
                    windows[f"{row['split']}/{name}_clean_deca.npy"].append(values)
                moved.clips.append(row["clip_id"])
            except UserError as error:
                moved.problems.append(f"{row['clip_id']}: {error}")
        with staged(out) as folder:
            for name, parts in windows.items():
                (folder / name).parent.mkdir(exist_ok=True)
                np.save(folder / name, np.concatenate(parts))
        return moved


def _windows_of(dataset: Location, row: Row, sound: str) -> dict[str, np.ndarray]:
    """Whole windows of a clip by the name of their file; `UserError` if it is shorter than one."""
    count = row["num_frames"] // WINDOW
    if not count:
        raise UserError(
            f"expected {WINDOW} frames or more, found {row['num_frames']}; the layout holds no shorter ones"
        )
    speaker = PEOPLE[row["speaker_side"] or "right"]  # a pair has no sides: their listeners sit left
    faces = {}
    for role in ("speaker", "listener"):
        values = np.zeros((row["num_frames"], WIDTH), np.float32)
        values[:, :EXPRESSION] = finite(row, f"{role}_exp")
        values[:, EXPRESSION:READ] = finite(row, f"{role}_pose")
        values[:, READ:] = row.get(f"{role}_details", 0)
        faces[role] = values
    mel = row[sound] if sound == MEL.name else mel_of(sound_of(dataset, row[sound], row["num_frames"], FPS, RATE_HZ))
    files = [[row["clip_id"], row["source_id"], str(frame)] for frame in range(row["num_frames"])]
    if row.get(FILES.name):
        files = json.loads(row[FILES.name])

    def cut(values: np.ndarray) -> np.ndarray:
        return values[: count * WINDOW].reshape(count, WINDOW, *values.shape[1:])

    return {
        f"p{1 - speaker}_list_faces": cut(faces["listener"]),
        f"p{speaker}_speak_faces": cut(faces["speaker"]),
        f"p{speaker}_speak_audio": cut(mel).reshape(count, WINDOW * ROWS_A_FRAME, BANDS),
        f"p{speaker}_speak_files": cut(np.array(files)),
    }


def mel_of(samples: np.ndarray) -> np.ndarray:
    """The spectrogram of sound at `RATE_HZ`, float32 (frame, 4, 128)."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE_HZ, n_fft=FFT, hop_length=HOP, n_mels=BANDS, center=True, power=2.0
    )
    count = len(samples) // HOP  # the last row is centred on the end
    return np.log(power.T[:count] + 1e-5).astype(np.float32).reshape(-1, ROWS_A_FRAME, BANDS)


def _read_windows(folder: Path, split: str, side: str) -> list[dict[str, Any]]:
    """The windows in which who sits on a side speaks, as rows of a data set."""
    speaker = PEOPLE[side]
    names = {"speaker": f"p{speaker}_speak_faces", "listener": f"p{1 - speaker}_list_faces"}
    faces = {role: _load(folder, name, (WINDOW, WIDTH)) for role, name in names.items()}
    audio = _load(folder, f"p{speaker}_speak_audio", (WINDOW * ROWS_A_FRAME, BANDS))
    files = _names_in(folder / f"p{speaker}_speak_files_clean_deca.npy", len(audio))
    counts = {len(values) for values in (*faces.values(), audio)}
    if len(counts) != 1:
        found = ", ".join(str(len(values)) for values in (*faces.values(), audio))
        raise UserError(f"{folder}: p{speaker} speaks: expected as many windows of faces and audio, found {found}")
    rows = []
    for i in range(len(audio)):
        clip_id = f"{split}_p{speaker}_{i:06d}"
        row = {
            "clip_id": clip_id, "source_id": f"{split}_p{speaker}", "num_frames": WINDOW, "split": split,
            "start_s": float(seconds_of(i * WINDOW)), "end_s": float(seconds_of((i + 1) * WINDOW)),
            "speaker_id": f"p{speaker}", "listener_id": f"p{1 - speaker}", "speaker_side": side, "attitude": None,
            MEL.name: audio[i].reshape(WINDOW, ROWS_A_FRAME, BANDS), FILES.name: files[i],
        }  # fmt: skip
        for role, values in faces.items():
            row |= {f"{role}_exp": values[i, :, :EXPRESSION], f"{role}_pose": values[i, :, EXPRESSION:READ]}
            row[f"{role}_details"] = values[i, :, READ:]
        rows.append(row)
    return rows


def _names_in(path: Path, count: int) -> list[str]:
    """The names of so many windows as JSON; empty where there is no array of text: no loader needs them."""
    try:
        names = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return [""] * count
    if not isinstance(names, np.ndarray) or names.dtype.kind != "U" or names.shape != (count, WINDOW, 3):
        return [""] * count
    return [json.dumps(window) for window in names.tolist()]


def _load(folder: Path, name: str, shape: tuple[int, int]) -> np.ndarray:
    """An array of windows, float32; `UserError` for no file, a pickle, another shape or what is no number."""
    path = folder / f"{name}_clean_deca.npy"
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: expected an array of numbers: {error}; save it without pickle") from None
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path}: expected one array, found an archive of several; save it by numpy.save")
    if values.ndim != 3 or values.shape[1:] != shape or values.dtype.kind != "f":
        raise UserError(
            f"{path}: expected floats (window, {shape[0]}, {shape[1]}), found {values.dtype} {values.shape}"
        )
    if not np.isfinite(values).all():
        raise UserError(
            f"{path}: {int((~np.isfinite(values)).sum())} values are no numbers; expected windows without any"
        )
    return values.astype(np.float32)

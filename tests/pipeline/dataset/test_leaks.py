"""Leaks that ids hide: planted in data sets whose faces and sounds are known by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.check import main
from pipeline.dataset.check import check_dataset
from pipeline.dataset.leaks import FILM, PEOPLE, PERSON, find_leaks
from pipeline.dataset.read import read_description
from pipeline.dataset.subset import write_subset
from pipeline.manifest.load import load_manifest
from schemas.column import ROLES
from schemas.errors import UserError
from stages.faces.tracker import Tracker
from tests.labs.toy_build import ToyProject
from tests.pipeline.media.test_fingerprint import SYLLABLE, speech
from tests.stages.test_face_identity import clip_of, halves, points_in

FACES = '''"""Faces that the test has decided: the first numbers say who it is, the others are 0."""
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column, per_role

FACES = {faces}


class FaceIdentity(Stage):
    reads = ("num_frames",)
    writes = per_role(Column("{{role}}_face_identity", "float32", (128,)))

    def process(self, clip):
        faces = np.zeros((2, 128), np.float32)
        for face, numbers in zip(faces, FACES[clip.clip_id]):
            face[: len(numbers)] = numbers
        return {{"speaker_face_identity": faces[0], "listener_face_identity": faces[1]}}
'''

SOUND = '''"""Sound that the test has written beside the stage, a file a clip."""
import shutil
from pathlib import Path
from pipeline.stage import Stage
from schemas.column import Column


class Sound(Stage):
    reads = ("num_frames",)
    writes = (Column("audio", "string", media=True),)

    def process(self, clip):
        written = Path("{folder}") / f"{{clip.clip_id}}.wav"
        return {{"audio": Path(shutil.copy(written, clip.output("audio.wav"))) if written.exists() else None}}
'''

A, B, C = "a_000000_000001", "a_000002_000003", "b_000000_000001"  # clips
P, Q, R, S = (0, 0), (0.8, 0), (0, 0.8), (0.8, 0.8)  # faces
ROWS = ("a,0,1,left,,p,q,train", "a,2,3,left,,q,p,train", "b,0,1,left,,r,s,ood")


def toy_with(folder: Path, faces: dict[str, tuple], rows: tuple[str, ...] = ROWS) -> ToyProject:
    toy = ToyProject(folder)
    toy.stages.clear()
    toy.write_clips(rows)
    toy.add_stage("face_identity", FACES.format(faces=faces))
    return toy


def findings(toy: ToyProject) -> list[str]:
    toy.build()
    return list(check_dataset(toy.folder / "out"))


def test_people_whose_ids_say_who_they_are_are_no_leak(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    toy = toy_with(tmp_path, {A: (P, Q), B: ((0.75, 0), (0.1, 0)), C: (R, S)})
    assert findings(toy) == []
    assert main([str(tmp_path / "out")]) == 0 and "hint" not in capsys.readouterr().out


def test_a_person_under_two_ids_in_train_and_ood_is_named_with_both_rows_and_the_distance(tmp_path: Path) -> None:
    toy = toy_with(tmp_path, {A: (P, Q), B: (Q, P), C: (R, (0.8, 0.3))})
    (finding,) = findings(toy)
    one, other = f"listener q of clip {A} (source a, train)", f"listener s of clip {C} (source b, ood)"
    assert finding == f"one person under two ids: {one} and {other}: 0.300 between the faces"


def test_a_leak_is_found_in_a_subset_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    toy = toy_with(tmp_path, {A: (P, Q), B: (Q, P), C: (R, (0.8, 0.3))})
    told = findings(toy)
    write_subset(tmp_path / "out", "num_frames > 0", tmp_path / "all")
    assert list(check_dataset(tmp_path / "all")) == told != []
    write_subset(tmp_path / "out", "split == 'train'", tmp_path / "train")
    assert main([str(tmp_path / "train")]) == 0 and "hint" not in capsys.readouterr().out


def test_a_person_whom_train_does_not_name_is_found_in_ood(tmp_path: Path) -> None:
    rows = ("a,0,1,left,,p,,train", ROWS[1], ROWS[2])
    (finding,) = findings(toy_with(tmp_path, {A: (P, (0, 1)), B: (Q, P), C: (R, S)}, rows))
    assert f"listener unnamed of clip {A}" in finding and f"speaker r of clip {C}" in finding


def test_a_person_under_two_ids_within_a_split_is_no_leak_but_known(tmp_path: Path) -> None:
    rows = (*ROWS[:2], "b,0,1,left,,r,s,train")
    toy = toy_with(tmp_path, {A: (P, Q), B: (Q, P), C: (R, (0.8, 0.3))}, rows)
    assert findings(toy) == []
    root = toy.folder / "out"
    (leak,) = find_leaks(root, read_description(root))
    assert leak.kind == PERSON and not leak.crosses and leak.distance == pytest.approx(0.3, abs=1e-6)


@pytest.mark.shared
def test_a_leak_planted_among_real_clips_is_found_by_face_alone(shared: Path, tmp_path: Path) -> None:
    """The man at the right of two ViCo clips (golden/labels: certain) has another name in ood."""
    from stages.face_identity import FaceIdentity

    stage, tracker = FaceIdentity(), Tracker(min_detection=0.5, min_presence=0.5)
    stage.setup("cpu")
    faces = {}
    for clip_id, film in ((A, "cz7zhbn7aq0u"), (B, "cte53x3i02lo"), (C, "ek3utk9fn46v")):
        frames = dict(zip(ROLES, halves(shared / "media" / "vico" / f"{film}.mp4"), strict=True))
        points = {role: np.stack([points_in(tracker, one) for one in shown]) for role, shown in frames.items()}
        values = stage.process(clip_of(tmp_path / film, frames, points))
        faces[clip_id] = tuple(values[f"{role}_face_identity"].tolist() for role in ROLES)
    rows = ("a,0,1,left,,p,q,train", "a,2,3,left,,t,u,train", "b,0,1,left,,r,s,ood")
    (finding,) = findings(toy_with(tmp_path, faces, rows))
    assert f"listener q of clip {A}" in finding and f"listener s of clip {C}" in finding


def test_two_people_under_one_id_are_named_wherever_they_are(tmp_path: Path) -> None:
    toy = toy_with(tmp_path, {A: (P, Q), B: (Q, (-0.3, 0.6)), C: ((-0.9, -0.9), S)})
    (finding,) = findings(toy)
    assert finding.startswith(f"{PEOPLE}: speaker p of clip {A}") and f"listener p of clip {B}" in finding
    assert f"{np.hypot(0.3, 0.6):.3f} between the faces" in finding


def test_the_two_people_of_a_clip_are_two(tmp_path: Path) -> None:
    rows = ("a,0,1,left,,p,q,train", "b,0,1,left,,p2,q2,ood")
    toy = toy_with(tmp_path, {A: (P, (0.2, 0)), C: ((-0.9, 0), (0, 0.9))}, rows)
    assert findings(toy) == []


def write_wav(path: Path, sound: np.ndarray) -> None:
    import wave

    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        file.writeframes((sound[:132300] * 32767).astype("<i2").tobytes())


def test_one_film_under_two_source_ids_is_heard(tmp_path: Path) -> None:
    film, other = speech(6, 1), speech(3, 2)
    clips = {"a_000000_000003": film, "a_000010_000013": other, "b_000000_000003": 0.4 * film[7 * SYLLABLE + 700 :]}
    for clip_id, sound in clips.items():
        write_wav(tmp_path / "sounds" / f"{clip_id}.wav", sound)
    rows = ("a,0,3,left,,p,q,train", "a,10,13,left,,p,q,train", "b,0,3,left,,r,s,test")
    silent = "b,5,8,left,,r,s,test"  # a film without a sound has none to compare
    toy = toy_with(tmp_path, dict.fromkeys(clips, (P, Q)), (*rows, silent))
    toy.stages.clear()
    toy.add_stage("sound", SOUND.format(folder=tmp_path / "sounds"))
    (finding,) = findings(toy)
    assert finding.startswith(
        f"{FILM}: clip a_000000_000003 (source a, train) and clip b_000000_000003 (source b, test)"
    )
    (leak,) = find_leaks(tmp_path / "out", read_description(tmp_path / "out"))
    assert leak.distance < 0.1


def test_check_says_how_to_have_faces_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    toy = ToyProject(tmp_path)
    toy.build()
    assert main([str(tmp_path / "out")]) == 0
    assert "hint: " in (said := capsys.readouterr().out) and "[stages.face_identity]" in said


class Planted(ToyProject):
    """A manifest that takes faces from a data set built before."""

    more = ""

    @property
    def manifest(self) -> Path:
        path = super().manifest
        path.write_text(path.read_text().replace("min_yield = 0.5\n", f'min_yield = 0.5\nfaces = "out"\n{self.more}'))
        return path


def test_the_split_rule_keeps_one_face_under_two_ids_on_one_side(tmp_path: Path) -> None:
    honest = (*ROWS[:2], "b,0,1,left,,r,q,train")
    toy_with(tmp_path, {A: (P, Q), B: (Q, P), C: (R, (0.8, 0.3))}, honest).build()
    planted = Planted(tmp_path)
    assert not load_manifest(planted.manifest).warnings
    planted.write_clips(ROWS)
    with pytest.raises(
        UserError, match=r"lines 3 and 4: identity 'q' stands in train and identity 's' in ood; one person"
    ):
        load_manifest(planted.manifest)
    planted.more = "split = {ood = 0.4}\n"
    planted.write_clips([row.rpartition(",")[0] + "," for row in ROWS])
    assert {clip.split for clip in load_manifest(planted.manifest).clips} == {"train"}, "ood has room for clip b alone"
    planted.manifest.write_text(planted.manifest.read_text().replace('faces = "out"\n', ""))
    assert {clip.clip_id: clip.split for clip in load_manifest(tmp_path / "toy.toml").clips}[C] == "ood"


def test_faces_of_a_data_set_without_faces_are_refused(tmp_path: Path) -> None:
    toy = Planted(tmp_path)
    ToyProject(tmp_path).build()
    with pytest.raises(UserError, match=r"faces: found 'out', allowed: a built data set with the stage face_identity"):
        load_manifest(toy.manifest)

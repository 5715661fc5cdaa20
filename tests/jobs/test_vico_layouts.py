"""ViCo's published layouts in and out: real clips, split into the two videos and the sound that ViCo published."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import export_data, import_data
from jobs.layouts.release.clip_id import HHMMSS, SECONDS, find_unit, parse_clip_id
from jobs.layouts.release.features import Features
from jobs.layouts.vico import Vico
from jobs.layouts.vico_challenge import VicoChallenge
from pipeline.build import Build, BuildOptions
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from pipeline.dataset.store import Store
from pipeline.manifest.load import load_manifest
from pipeline.media.encode import read_video
from pipeline.part import run_here
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from schemas.dataset import BUILT, ColumnEntry, Description
from tests.labs.release import COLUMNS, ReleasedClip, write_release

CLIPS = {  # file of the public page -> id in ViCo's grammar, attitude, split
    "cz7zhbn7aq0u": ("JohCZ6V1C70_000350_000354", "positive", "train"),
    "cte53x3i02lo": ("-abc_EF_123_000070_000075", "neutral", "ood"),
}
STAGES = ("clip", "face", "acoustic", "landmarks")


@pytest.fixture(scope="module")
def release(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full release of two clips."""
    clips = [ReleasedClip(name, *told, number) for number, (name, told) in enumerate(CLIPS.items())]
    return write_release(shared, tmp_path_factory.mktemp("release"), clips)


def build(manifest: Path, out: Path) -> Path:
    codes = [code for code in find_stages() if code.name in STAGES]
    made = Build(load_manifest(manifest), out, codes, BuildOptions())
    report = made.run(made.survey(), run_here)
    assert not report.after.missing, report.missing_lines()
    assert not list(check_dataset(out))
    return out


@pytest.fixture(scope="module")
def built(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    assert not Vico().read(release, folder).problems
    return build(folder / "vico.toml", folder / "data")


@pytest.mark.shared
def test_a_release_is_built_with_its_own_ids_attitudes_people_and_splits(built: Path) -> None:
    rows = {row["clip_id"]: row for row in read_clips(built)}
    assert {(name, row["attitude"], row["split"]) for name, row in rows.items()} == set(CLIPS.values())
    assert [rows[name]["num_frames"] for name, _, _ in CLIPS.values()] == [120, 150]
    assert {row["speaker_id"] for row in rows.values()} == {"20", "21"}
    assert all(row["speaker_side"] is None for row in rows.values())


@pytest.mark.shared
def test_data_are_named_after_what_they_are_and_a_clip_knows_its_film(
    release: Path, built: Path, tmp_path, capsys
) -> None:
    manifest = load_manifest(built.parent / "vico.toml")
    assert manifest.name == "vico"
    assert {source.video for source in manifest.sources.values()} == {"JohCZ6V1C70", "-abc_EF_123"}
    challenge = tmp_path / "listening_head"
    for folder in ("videos", "audios"):
        (challenge / folder).mkdir(parents=True)
    (clip_id, *_), *_ = CLIPS.values()
    for end, role in (("1", "speaker"), ("0", "listener")):
        (challenge / "videos" / f"abcdefghijkl.{role}.mp4").symlink_to(release / "videos" / f"{clip_id}.{end}.mp4")
    (challenge / "audios" / "abcdefghijkl.wav").symlink_to(release / "audios" / f"{clip_id}.wav")
    (challenge / "test.csv").write_text("video_id,uuid,speaker_id,listener_id\nJohCZ6V1C70,abcdefghijkl,1,2\n")
    for year, name in ((None, "vico challenge"), ("2023", "vico challenge 2023")):
        VicoChallenge().read(challenge, tmp_path / name, challenge=year)
        manifest = load_manifest(tmp_path / name / "vico.toml")
        assert manifest.name == name and manifest.sources["abcdefghijkl"].video == "JohCZ6V1C70"
    words = [str(release), "--out", str(tmp_path / "full"), "--challenge", "2023", "--layout"]
    assert import_data.main([*words, "vico"]) == 2
    assert "found with --layout vico, allowed: only with vico_challenge; leave it out" in capsys.readouterr().err
    assert import_data.main([*words, "vico_challenge"]) == 2
    assert "is read by --layout vico" in capsys.readouterr().err


@pytest.mark.shared
def test_the_crops_are_the_published_ones_at_384_with_a_face_in_every_frame(built: Path) -> None:
    for row in read_clips(built, ["speaker_video", "listener_video", "speaker_crop_box", "speaker_landmarks_valid"]):
        frames = list(read_video(built / row["speaker_video"]))
        assert len(frames) == row["num_frames"] and frames[0].shape == (384, 384, 3)
        assert list(row["speaker_crop_box"]) == [0, 0, 256, 256]
        assert np.mean(row["speaker_landmarks_valid"]) > 0.95


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["vico", "vico_challenge"])
def test_export_and_import_give_the_same_data_set_again(built: Path, tmp_path: Path, layout: str) -> None:
    assert export_data.main([str(built), "--out", str(tmp_path / "out"), "--layout", layout]) == 0
    folder = tmp_path / "out" / ("listening_head" if layout == "vico_challenge" else "")
    assert import_data.main([str(folder), "--layout", layout, "--out", str(tmp_path / "again")]) == 0
    again = build(tmp_path / "again" / "vico.toml", tmp_path / "data")
    columns = ["acoustic", "listener_video", "speaker_video"]
    for before, after in zip(read_clips(built, columns), read_clips(again, columns), strict=True):
        labels = ("clip_id", "attitude", "speaker_id", "listener_id", "split", "num_frames")
        assert [before[name] for name in labels] == [after[name] for name in labels]
        np.testing.assert_array_equal(before["acoustic"], after["acoustic"])
        for role in ("speaker", "listener"):
            assert landmark_shift_px(built, again, before["clip_id"], role) < 0.5


def landmark_shift_px(first: Path, second: Path, clip_id: str, role: str) -> float:
    """Median distance of all landmarks between two builds: crops are encoded again on every way through."""
    pipeline = Pipeline([code for code in find_stages() if code.name in STAGES], {})
    column, found = pipeline.columns[f"{role}_landmarks"], []
    for root in (first, second):
        parts = [path.stem for path in (root / "columns" / "landmarks").glob("*.parquet")]
        rows = {k: v for part in parts for k, v in Store(root).read_columns("landmarks", part, [column]).items()}
        found.append(rows[clip_id][column.name][..., :2])
    return float(np.nanmedian(np.linalg.norm(found[0] - found[1], axis=-1)))


@pytest.mark.shared
def test_the_baselines_features_are_written_as_it_reads_them(built: Path, tmp_path: Path) -> None:
    VicoChallenge().write(built, tmp_path)
    features = tmp_path / "example" / "features"
    for row in read_clips(built, ["acoustic"]):
        np.testing.assert_array_equal(np.load(features / "audio_feats" / f"{row['clip_id']}.npy"), row["acoustic"])
        if row["split"] == "train":
            training = row["acoustic"]
    statistics = torch.load(features / "audio_feats_mean_std.bin", weights_only=False)
    np.testing.assert_allclose(statistics["mean"], training.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics["std"], training.std(axis=0, ddof=1), rtol=1e-4, atol=1e-5)
    with (tmp_path / "listening_head" / "train.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["uuid"] == "JohCZ6V1C70_000350_000354" and row["attitude"] == "positive"


def described(columns: list[ColumnEntry], packed: list[str]) -> Description:
    shape = {"kind": BUILT, "fps": 30, "sample_rate_hz": 44_100, "stages": {}, "shards": ()}
    return Description(name="lab", columns=tuple(columns), packed=tuple(packed), **shape)


def test_coefficients_are_joined_in_the_baselines_order(tmp_path: Path) -> None:
    sizes = {"angle": 3, "exp": 64, "trans": 3, "crop": 3, "id": 80, "gamma": 27, "tex": 80}
    names = {f"{role}_{name}": size for role in ("speaker", "listener") for name, size in sizes.items()}
    columns = [ColumnEntry(name, f"fixed_size_list<element: float>[{size}]") for name, size in names.items()]
    row = {name: np.full((5, size), i, np.float32) for i, (name, size) in enumerate(names.items())}
    row["speaker_id"] = np.arange(80, dtype=np.float32)  # one vector for the clip
    row |= {"clip_id": "c", "split": "train", "num_frames": 5, "acoustic": np.zeros((5, 45), np.float32)}
    features = Features(tmp_path, described(columns, [*names, "acoustic"]))
    features.write(row)
    features.write_statistics()
    found = torch.load(tmp_path / "video_feats" / "c.speaker.bin", weights_only=False)
    motion = found["angle.exp.trans"]
    assert motion.shape == (5, 73) and found["id.gamma.tex"].shape == (5, 187)
    assert motion[0].tolist() == [0.0] * 3 + [1.0] * 64 + [2.0] * 3 + [3.0] * 3
    assert found["id.gamma.tex"][4, :80].tolist() == list(range(80))
    statistics = torch.load(tmp_path / "video_feats_mean_std.bin", weights_only=False)
    assert statistics["mean"][0] == pytest.approx((0 + 7) / 2)
    assert statistics["std"][0] == pytest.approx(np.std([0] * 5 + [7] * 5, ddof=1))
    assert Features(tmp_path, described([], ["acoustic"])).columns == ["acoustic"]  # no coefficients, no files of them


@pytest.mark.shared
def test_what_is_missing_broken_or_unknown_is_listed_and_left_out(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    for name in ("videos", "audios"):
        (folder / name).mkdir(parents=True)
    good = CLIPS["cz7zhbn7aq0u"][0]
    for path in release.glob(f"*/{good}*"):
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    (folder / "videos" / "broken.mp4").write_bytes(b"no video")
    lines = [
        ",".join(COLUMNS),
        *2 * [f"positive,{good},{good}.0,{good}.1,1,2,train"],
        "positive,gone,a,b,1,2,train",
        f"happy,{good},{good}.0,{good}.1,1,2,train",
        f"neutral,{good},broken,{good}.1,1,2,train",
        f"neutral,../{good},{good}.0,{good}.1,1,2,train",
        f"neutral,{good},{good}.0,../../{good}.1,1,2,train",
    ]
    (folder / "RLD_data.csv").write_text("\n".join(lines) + "\n")
    assert Vico().read(folder, tmp_path / "out").clips == [good]
    told = (tmp_path / "out" / "problems.txt").read_text()
    for expected in ("stands there twice", "no speaker file", "no audio file", "attitude 'happy'", "clip_id '../"):
        assert expected in told
    assert import_data.main([str(tmp_path), "--layout", "vico", "--out", str(tmp_path / "x")]) == 2


@pytest.mark.parametrize(
    ("clips", "unit"),
    [
        ([("JohCZ6V1C70_000350_000358", 8)], None),  # 8 s either way
        ([("JohCZ6V1C70_000350_000358", 8), ("JohCZ6V1C70-000350_000410", 60)], SECONDS),
        ([("JohCZ6V1C70_000350_000358", 8), ("JohCZ6V1C70-000350_000410", 20)], HHMMSS),
        ([("-bcd_f-hi_k_000365_000373", 8)], SECONDS),  # no minute has 65 seconds
        ([("JohCZ6V1C70_000350_000410", 60), ("JohCZ6V1C70_000350_000410", 20)], None),  # they contradict each other
    ],
)
def test_digits_are_read_as_seconds_or_clock_times_only_where_the_data_decide(
    clips: list[tuple[str, float]], unit: str | None
) -> None:
    found, why = find_unit([(parsed, length) for text, length in clips if (parsed := parse_clip_id(text))])
    assert found == unit and why


def test_ids_with_either_sign_and_with_signs_inside_come_apart() -> None:
    parsed = parse_clip_id("-b_d-f_h-jk-000309_000324")
    assert parsed is not None and parsed.video == "-b_d-f_h-jk"
    assert parsed.span_s(SECONDS) == (309, 324) and parsed.span_s(HHMMSS) == (189, 204)
    assert parse_clip_id("cz7zhbn7aq0u") is None


@pytest.mark.shared
def test_an_ambiguous_unit_is_listed_and_the_times_are_left_out(release: Path, tmp_path: Path) -> None:
    only = tmp_path / "one"
    only.mkdir()
    for name in ("videos", "audios"):
        (only / name).symlink_to(release / name)
    lines = (release / "RLD_data.csv").read_text().splitlines()
    (only / "RLD_data.csv").write_text("\n".join(lines[:2]) + "\n")
    found = Vico().read(only, tmp_path / "out")
    assert "both readings fit" in found.problems[0]
    assert (tmp_path / "out" / "origins.csv").read_text().splitlines()[1] == "JohCZ6V1C70_000350_000354,JohCZ6V1C70,,"
    Vico().read(only, tmp_path / "told", time_unit=SECONDS)
    assert (tmp_path / "told" / "origins.csv").read_text().splitlines()[1].endswith(",350,354")

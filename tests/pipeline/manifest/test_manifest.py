"""Manifests and clips.csv: what is accepted, and that every mistake says where it is."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.build import BuildOptions
from pipeline.clock import Span
from pipeline.dataset.read import read_clips
from pipeline.manifest.clips_csv import clip_id_for
from pipeline.manifest.load import Manifest, load_manifest
from pipeline.settings import parse_overrides, resolve
from pipeline.stage import NoSettings
from schemas.errors import UserError
from tests.labs.toy_build import HEADER, ROWS, ToyProject

BASE = '[dataset]\nname = "x"\nclips = "clips.csv"\n[[sources]]\nid = "a"\npath = "a.bin"\nlicence = "none"\n'


def sourced(line: str) -> str:
    """The manifest with another origin of its source."""
    return BASE.replace('path = "a.bin"', line)


PAIR = sourced('speaker = "a.bin"\nlistener = "b.bin"\naudio = "a.bin"')


@pytest.fixture
def toy(tmp_path) -> ToyProject:
    return ToyProject(tmp_path)


def loaded(toy: ToyProject, text: str, *rows: str) -> Manifest:
    """The manifest of this text, with these clips."""
    toy.write_clips(rows)
    (toy.folder / "m.toml").write_text(text)
    return load_manifest(toy.folder / "m.toml")


def test_clips_have_exact_spans_and_ids_in_the_vico_grammar(toy: ToyProject) -> None:
    manifest = load_manifest(toy.manifest)
    clip = next(clip for clip in manifest.clips if clip.span.start_s == Fraction(3, 2))
    assert clip.clip_id == "a_000001_000003"
    assert clip.span == Span(Fraction("1.5"), Fraction("2.5"))
    assert clip.columns()["num_frames"] == 30


def test_people_whose_names_are_unknown_are_left_empty(toy: ToyProject) -> None:
    toy.write_clips(["a,0,1,left,positive,p,,train", "b,0,1,left,positive,,q,train"])
    columns = [clip.columns() for clip in load_manifest(toy.manifest).clips]
    assert [(row["speaker_id"], row["listener_id"]) for row in columns] == [("p", None), (None, "q")]
    toy.build()
    rows = read_clips(toy.folder / "out")
    assert [(row["speaker_id"], row["listener_id"]) for row in rows] == [("p", None), (None, "q")]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [("350", "358", "v_000350_000358"), ("10.75", "15", "v_000010_000015"), ("0", "3.32", "v_000000_000004")],
)
def test_ids_are_six_digits_of_whole_seconds_rounded_outwards(start: str, end: str, expected: str) -> None:
    assert clip_id_for("v", Span(Fraction(start), Fraction(end))) == expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (f"{0.34 + 0.5!r}", "0.84"),  # 0.8400000000000001
        (f"{1000.84 - 1000!r}", "0.84"),  # 0.8400000000000318
        (f"{0.1 + 0.2!r}", "0.3"),
        (f"{25 / 30!r}", "0.833333333"),
    ],
)
def test_seconds_that_a_program_computed_are_the_number_that_they_plainly_are(
    toy: ToyProject, written: str, meant: str
) -> None:
    clips = []
    for end_s, start_s in ((written, f"{0.1 + 0.2 - 0.3!r}"), (meant, "0")):  # 5.551115123125783e-17
        (toy.folder / "clips.csv").write_text(f"{HEADER}\na,{start_s},{end_s},left,positive,p,q,train\n")
        clips += load_manifest(toy.manifest).clips
    assert clips[0] == clips[1] and clips[0].columns() == clips[1].columns()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER.replace(",split", "") + "\n", "line 1: missing column 'split'"),
        (HEADER + ",mood\n", "line 1: unknown column 'mood'"),
        (HEADER + ",split\n", "line 1: column given twice 'split'"),
        ("\n".join([ROWS[0], ROWS[1], ROWS[0]]), "lines 2 and 4: both are clip 'a_000000_000001'"),
        ("c,0,1,left,positive,p,q,train", "line 2, column 'source': found 'c', allowed: a, b"),
        ("a,0:01,2,left,positive,p,q,train", "line 2, column 'start_s': found '0:01', allowed: seconds"),
        ("a,nan,2,left,positive,p,q,train", "column 'start_s': found 'nan'"),
        ("a,2,1,left,positive,p,q,train", "column 'end_s': found '1', allowed: a time after start_s"),
        ("a,0,1,middle,positive,p,q,train", "column 'speaker_side': found 'middle', allowed: left, right"),
        ("a,0,1,left,happy,p,q,train", "column 'attitude': found 'happy', allowed: positive, neutral, negative"),
        ("a,0,1,left,positive,../p,q,train", "column 'speaker_id': found '../p', allowed: 1 to 64"),
        ("a,0,1,left,positive,p,q,dev", "column 'split': found 'dev', allowed: train, val, test, ood"),
        ("a,0,1,left,positive,p,q,", "column 'split': found ''"),
        ("a,0,1,left,positive,p,q", "line 2: expected 8 cells as in the header, found 7"),
    ],
)
def test_a_bad_csv_names_line_column_value_and_what_is_allowed(toy: ToyProject, text: str, expected: str) -> None:
    (toy.folder / "clips.csv").write_text(text if text.startswith("source") else f"{HEADER}\n{text}\n")
    with pytest.raises(UserError) as caught:
        load_manifest(toy.manifest)
    assert "clips.csv" in str(caught.value)
    assert expected in str(caught.value)


def test_own_clip_ids_are_kept(toy: ToyProject) -> None:
    (toy.folder / "clips.csv").write_text(f"{HEADER},clip_id\n{ROWS[0]},-abc_000350_000358\n")
    assert load_manifest(toy.manifest).clips[0].clip_id == "-abc_000350_000358"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[dataset]\nname = ?", r"not valid TOML: .*line 2, column 8"),
        ("a = " + "[" * 5000 + "]" * 5000, "not valid TOML"),
        (BASE.replace("name = ", "nam = "), r"line 2: \[dataset\] unknown key 'nam', allowed: name, clips"),
        (BASE.replace('"a.bin"', '"none.bin"'), r"line 6: \[\[sources\]\] number 1: path: .*there is no .*none.bin"),
        (sourced('url = "file:///etc/passwd"'), "url: found .*, allowed: an address that begins"),
        (sourced('url = "https://me:secret@x/"'), "url: found .*, allowed: an address that begins"),
        (sourced('youtube = "abc"'), "youtube: found 'abc', allowed: the 11 characters"),
        (BASE + 'url = "https://x/v.mp4"\n', "url: found .*, allowed: one of path, url, youtube, or speaker with"),
        (BASE.replace("path =", "speaker ="), "speaker: found .*, allowed: one of path, url, youtube, or speaker with"),
        (BASE.replace('"a.bin"', '"file:///etc/passwd"'), "allowed: a file, relative to the manifest"),
        (BASE.replace('id = "a"', 'id = "a/b"'), "id: found 'a/b', allowed: 1 to 64"),
        (BASE.replace('licence = "none"', ""), "licence: found None, allowed: text"),
        (BASE + 'sha256 = "00"\n', "sha256: found '00', allowed: 64 digits"),
        (BASE.replace('"x"\n', '"x"\nmin_yield = 2\n', 1), r"line 3: \[dataset\] min_yield: found 2, allowed: a share"),
        (BASE.replace("[[sources]]", "[sources]"), "no sources; expected one"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(toy: ToyProject, text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        loaded(toy, text, ROWS[0])


def test_a_source_with_another_hash_is_refused_before_anything_runs(toy: ToyProject) -> None:
    text = toy.manifest.read_text().replace('"a.bin"', '"a.bin"\nsha256 = "' + "0" * 64 + '"')
    build = toy.prepare()
    build.manifest = loaded(toy, text, ROWS[0])
    with pytest.raises(UserError, match="source 'a': .* has sha256 .* the manifest names 0000"):
        build.survey()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=200), st.sampled_from(ROWS).flatmap(lambda row: st.just(row + '\x00"\n,'))))
def test_whatever_stands_in_clips_csv_only_a_manifest_error_comes_out(toy: ToyProject, text: str) -> None:
    (toy.folder / "clips.csv").write_text(HEADER + "\n" + text, encoding="utf-8", newline="")
    try:
        load_manifest(toy.manifest)
    except UserError as error:
        assert "clips.csv" in str(error)


def test_settings_go_from_default_to_manifest_to_command_line(toy: ToyProject) -> None:
    wave = next(code for code in toy.prepare().pipeline.codes.values() if code.name == "wave").load()
    assert resolve("wave", wave.Settings, {}).gain == 1.0
    assert resolve("wave", wave.Settings, {"gain": 3}).gain == 3.0
    overrides = parse_overrides(["wave.gain=0.5", "face.policy=smooth"])
    assert overrides == {"wave": {"gain": 0.5}, "face": {"policy": "smooth"}}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("wave.gian=1", "unknown setting 'gian'; settings of 'wave': gain"),
        ("wave.gain=high", "expected float, found 'high'"),
        ("wave.gain=-1", r"\[stages.wave\] gain: found -1, allowed: 0 or more"),
        ("wav.gain=1", "unknown stage 'wav'; stages: peak, wave"),
        ("gain=1", "expected stage.key=value"),
    ],
)
def test_a_wrong_setting_lists_what_there_is(toy: ToyProject, assignment: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        toy.prepare(options=BuildOptions(parse_overrides([assignment])))
    with pytest.raises(UserError, match="settings of 'x': none"):
        resolve("x", NoSettings, {"a": 1})


def test_a_pair_of_cropped_videos_is_a_source_whose_clips_have_no_side(toy: ToyProject) -> None:
    manifest = loaded(toy, PAIR, "a,0,1,,positive,p,q,train")
    source = manifest.sources["a"]
    assert source.pair is not None and [path.name for path in source.files] == ["a.bin", "b.bin", "a.bin"]
    assert manifest.clips[0].columns()["speaker_side"] is None


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        (PAIR, "a,0,1,left,positive,p,q,train", "line 2, column 'speaker_side': found 'left', allowed: '' in a pair"),
        (BASE, "a,0,1,,positive,p,q,train", "line 2, column 'speaker_side': found '', allowed: left, right"),
        (
            f'{BASE}video = "film"\n',
            "a,0,1,left,positive,p,q,train",
            "video: found 'film', allowed: only in a source",
        ),
        (PAIR.replace("b.bin", "c.bin"), "a,0,1,,positive,p,q,train", "listener: found 'c.bin', allowed: an existing"),
    ],
)
def test_sides_and_pairs_must_agree(toy: ToyProject, text: str, row: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        loaded(toy, text, row)


def test_any_file_of_a_pair_that_changes_makes_the_clip_another(toy: ToyProject) -> None:
    build = toy.prepare()
    build.manifest = loaded(toy, PAIR, "a,0,1,,positive,p,q,train")
    build.survey()
    before = build.survey().parts[0].clips[0].source_sha256
    (toy.folder / "b.bin").write_bytes(b"another listener")
    build.survey()
    assert build.survey().parts[0].clips[0].source_sha256 != before

"""Every command answers bad input with one line that says what to do, and status 2; and all stand in the list."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from jobs import __main__ as listing
from jobs import predict, train
from jobs.study import __main__ as studies
from jobs.study import random_set

JOBS = Path(listing.__file__).parent
NO_COMMANDS = ("__init__", "__main__", "command")
COMMANDS = sorted(path.stem for path in JOBS.glob("*.py") if path.stem not in NO_COMMANDS)
STUDIES = sorted(path.stem for path in (JOBS / "study").glob("[!_]*.py"))
VERBS = "add|build|choose|give|name|predict|rename|run|say"
NEXT = re.compile(rf"python -m jobs|expected|allowed|known|there (are|is)|[;,] (\w+ )?({VERBS}) ", re.IGNORECASE)

# Command -> command lines that cannot be right, with names of `world` in braces.
BAD = {
    "build": """
        {absent} --out {out} | {note} --out {out} | {garbage} --out {out} | {empty} --out {out}
        {manifest} --out {note} | {manifest} --out {note}/below | {manifest} --out {out} --redo nose
        {manifest} --out {out} --set nose.x=1 | {manifest} --out {out} --set blink.nose=1
        {manifest} --out {out} --set blink.threshold | {manifest} --out {out} --set blink.threshold=high
        {manifest} --out {out} --set threedmm.basis=nose | {manifest} --out {out} --set threedmm.basis={absent}
        {manifest} --out {out} --set threedmm.basis={garbage} | {manifest} --out {out} --set threedmm.basis={cut_basis}
        {manifest} --out {out} --set threedmm.fitter=deep3d | {manifest} --out {out} --set threedmm.fitter=nose
        {manifest} --out {out} --stage {absent} | {manifest} --out {out} --stage {note}
        {manifest} --out {out} --stage {garbage} | {manifest} --out {out} --stage {empty} | {manifest} --out s3://
    """,
    "check": "{absent} | {empty} | {note} | {unread} | s3://",
    "describe": "noses",
    "download": """
        {absent} | {note} | {garbage} | {empty} | {manifest} --retry nose | {manifest} --set download.nose=1
        {manifest} --set nose
    """,
    "evaluate": """
        --reference {absent} --predicted {predicted} --out {out} | --reference {data} --predicted {absent} --out {out}
        --reference {data} --predicted {empty} --out {out} | --reference {unread} --predicted {predicted} --out {out}
        --reference {data} --predicted {unread} --out {out} | --reference {data} --predicted {note} --out {out}
        --reference {data} --predicted {cut} --split test --out {out} --address none
        --reference {data} --videos {absent} --out {out} | --reference {data} --out {out}
        --reference {data} --videos {empty} --out {out} --address none
        --reference {data} --predicted {predicted} --split test --metrics fd_exp_eccv2022 --out {note} --address none
        --reference {data} --predicted {predicted} --metrics nose --out {out}
        --reference {data} --predicted {predicted} {predicted} --out {out}
        --reference {data} --predicted {predicted} --out {out} --split val --address none
    """,
    "export_vico": """
        {absent} --out {out} | {empty} --out {out} | {note} --out {out} | {unread} --out {out} | {cut} --out {out}
        {data} --out {out}
    """,
    "import_vico": """
        {absent} --out {out} | {empty} --out {out} | {note} --out {out} | {garbled} --out {out}
        {headless} --out {out}
    """,
    "make_demo": "--out {note} | --out {note}/below",
    "predict": """
        {absent} {data} --out {out} | {empty} {data} --out {out} | {run} {absent} --out {out} | {data} --out {out}
        {run} {empty} --out {out} | {run} {unread} --out {out} | {run} {cut} --out {out} | {run} {note} --out {out}
        {unread_run} {data} --out {out} | {other_run} {data} --out {out} | {garbage_run} {data} --out {out}
        {cut_run} {data} --out {out} | {run} {data} --out {note} | {run} {data} --split val --out {out}
    """,
    "preview": """
        {absent}/media/x --out {out}.png | {empty}/media/x --out {out}.png | {note} --out {out}.png
        {data}/media/nobody --out {out}.png | {unread}/media/x --out {out}.png
    """,
    "reextract": """
        {absent} --data {data} | {empty} --data {data} | {note} --data {data} | {videos} --data {absent}
        {videos} --data {empty} | {videos} --data {unread} | {videos} --data {cut} | {videos} --data {data}
    """,
    "render": """
        {absent} --data {data} --out {out} | {empty} --data {data} --out {out} | {unread} --data {data} --out {out}
        {predicted} --data {absent} --out {out} | {predicted} --data {empty} --out {out}
        {predicted} --data {unread} --out {out} | {predicted} --data {cut} --out {out} | {cut} --data {data} --out {out}
        {predicted} --data {data} --out {out} --renderer pirender
        {predicted} --data {data} --out {out} --renderer pirender --weights nose
        {predicted} --data {data} --out {out} --renderer pirender --weights {absent}
        {predicted} --data {data} --out {out} --split val
    """,
    "retry": "{absent} --class failed | {empty} --class failed | {note} --class failed | {data} --class nose",
    "setup": "",  # takes nothing
    "status": "{absent} | {empty} | {note} | {unread_ledger} | s3://",
    "train": """
        {absent} --listener random --out {out} | {empty} --listener random --out {out}
        {note} --listener random --out {out} | {unread} --listener random --out {out}
        {cut} --listener random --out {out} --num-workers 0 | {data} --listener nose --out {out}
        {data} --listener vico_lstm --preset nose --out {out} | {data} --listener vico_lstm --set nose=1 --out {out}
        {data} --listener vico_lstm --set nose --out {out} | {data} --listener vico_lstm --set epochs=many --out {out}
        {data} --listener vico_lstm --out {run} | {data} --listener vico_lstm --out {out} --resume
        {data} --listener vico_lstm --out {unread_run} --resume | {data} --listener random --out {note}
        {data} --listener vico_lstm --out {garbage_run} --resume --num-workers 0
    """,
    "weights": "fetch nose | check nose | fetch pirender nose",
    "bench": "--only noses | --only stages --video {absent} | --only stages --video {note} --end 2",
    "study.compare_fitters": """
        {absent} {data} | {data} {absent} | {empty} {data} | {unread} {data} | {note} {data} | {cut} {cut}
    """,
    "study.learn_basis": """
        {absent} --name n --out {out} | {empty} --name n --out {out} | {unread} --name n --out {out}
        {data} --name n --out {out} | {absent}.csv --name n --out {out} | {headless}/test.csv --name n --out {out}
        {faces}/absent.csv --name n --out {out} | {faces}/film.csv --name n --out {out}
        {faces}/picture.csv --name n --out {out} | {faces}/numbers.csv --name n --out {out}
    """,
    "study.measure_speech": """
        {absent} | {empty} | {note} | {speech} | {unread_speech} | {empty} --set nose.x=1 | {empty} --set asr.nose=1
        {empty} --set asr.backend=whisper --set asr.model=base.en | {empty} --write {absent}
    """,
    "study.random_set": "--out {note} | --out {note}/below | --out {out} --clips 0 | --out {out} --clips 9 --frames 9",
    "study.simulate": "--clips 0 | --stages 0",
}  # fmt: skip


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in re.split(r"\s\|\s|\n", text) if line.strip()]


CASES = [(name, line) for name, text in BAD.items() for line in lines_of(text)]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """A data set, a run and predictions that are sound, and much that is not."""
    root = tmp_path_factory.mktemp("world")
    names = ("absent", "empty", "note", "garbage", "data", "run", "predicted", "cut", "unread", "videos", "faces")
    names += ("unread_run", "other_run", "garbage_run", "cut_run", "garbled", "headless", "speech", "unread_speech")
    paths = {name: root / name for name in (*names, "unread_ledger", "manifest", "cut_basis")}
    for name in ("empty", "unread", "garbled", "headless", "videos", "faces", "speech", "unread_speech"):
        paths[name].mkdir()
    paths["note"].write_text("nothing of the kind\n")
    paths["garbage"].write_bytes(bytes(range(256)) * 8)
    random_set.write_random_set(paths["data"], random_set.Extent(clips=12, frames=600, people=4))
    few = ("--set", "epochs=1", "--num-workers", "0")
    assert train.main([str(paths["data"]), "--listener", "vico_lstm", *few, "--out", str(paths["run"])]) == 0
    assert predict.main([*(str(paths[name]) for name in ("run", "data")), "--out", str(paths["predicted"])]) == 0
    (paths["unread"] / "dataset.json").write_text('{"shards": ')
    shutil.copytree(paths["data"], paths["cut"])
    for shard in (paths["cut"] / "shards").iterdir():
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    for name in ("unread_run", "other_run", "garbage_run", "cut_run"):
        shutil.copytree(paths["run"], paths[name])
    (paths["unread_run"] / "run.json").write_text("{")
    (paths["other_run"] / "run.json").write_text("{}")
    for weights in ("checkpoint.safetensors", "last.safetensors"):
        shutil.copy(paths["garbage"], paths["garbage_run"] / weights)
        whole = (paths["run"] / weights).read_bytes()
        (paths["cut_run"] / weights).write_bytes(whole[: len(whole) // 2])
    basis = (JOBS.parent / "stages" / "morphable" / "basis_media_v1.npz").read_bytes()
    paths["cut_basis"].write_bytes(basis[: len(basis) // 2])
    shutil.copytree(paths["data"], paths["unread_ledger"])
    (paths["unread_ledger"] / "ledger").mkdir(exist_ok=True)
    for name in ("run.json", "ledger/started.json"):
        (paths["unread_ledger"] / name).write_text("{")
    (paths["garbled"] / "RLD_data.csv").write_bytes(paths["garbage"].read_bytes())
    (paths["headless"] / "test.csv").write_text("one,two\n1,2\n")
    for clip in ("nobody", "nothing"):
        shutil.copy(paths["note"], paths["videos"] / f"{clip}.mp4")
    row = "person,file,start_s,end_s,left,top,side\n"
    shutil.copy(paths["note"], paths["faces"] / "film.mp4")
    shutil.copy(paths["note"], paths["faces"] / "picture.png")
    (paths["faces"] / "absent.csv").write_text(f"{row}p,absent.mp4,0,1,0,0,9\n")
    (paths["faces"] / "film.csv").write_text(f"{row}p,film.mp4,0,1,0,0,9\n")
    (paths["faces"] / "picture.csv").write_text(f"{row}p,picture.png,,,0,0,9\n")
    (paths["faces"] / "numbers.csv").write_text(f"{row}p,picture.png,,,a,b,c\n")
    shutil.copy(paths["note"], paths["speech"] / "a.wav")
    (paths["speech"] / "a.json").write_text('{"text": "nothing"}')
    (paths["unread_speech"] / "a.json").write_text("{")
    (root / "clips.csv").write_text(
        "source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split\na,0,1,left,,p,q,train\n"
    )
    source = '[[sources]]\nid = "a"\npath = "note"\nlicence = "none"\n'
    paths["manifest"].write_text(f'[dataset]\nname = "bad"\nclips = "clips.csv"\n{source}')
    yield paths


def test_every_command_stands_in_the_list_and_has_cases() -> None:
    assert sorted(listing.COMMANDS) == COMMANDS
    assert list(studies.STUDIES) == STUDIES
    assert set(BAD) == {*COMMANDS, "bench", *(f"study.{name}" for name in STUDIES)}


def test_the_lists_say_a_line_a_command(capsys) -> None:
    listing.main()
    studies.main()
    out = capsys.readouterr().out
    assert all(re.search(rf"^{name} +\w.{{20,}}$", out, flags=re.MULTILINE) for name in (*COMMANDS, *STUDIES))
    assert "python -m jobs.bench, python -m jobs.study" in out


@pytest.mark.parametrize(("name", "line"), CASES, ids=[f"{name} {line}" for name, line in CASES])
def test_bad_input_is_one_line_with_what_to_do_next(name: str, line: str, world, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path / "cache"))
    main = import_module(f"jobs.{name}{'.__main__' * (name == 'bench')}").main
    assert main(shlex.split(line.format(**world, out=tmp_path / "out"))) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    assert NEXT.search(message), message

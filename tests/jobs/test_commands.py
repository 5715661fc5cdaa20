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

# Command -> command lines that cannot be right, with names of `world` in braces: `{a,b}` stands for a line with each;
# `to` stands for `--out {out}`.
BAD = {
    "build": """
        {absent,note,garbage,empty} {to} | {manifest} --out {note} | {manifest} --out {note}/below | {manifest} --out s3://
        {manifest} {to} --redo nose | {manifest} {to} --set nose.x=1 | {manifest} {to} --set blink.nose=1
        {manifest} {to} --set blink.threshold | {manifest} {to} --set blink.threshold=high
        {manifest} {to} --set threedmm.basis=nose | {manifest} {to} --set threedmm.basis={absent,garbage,cut_basis}
        {manifest} {to} --set threedmm.fitter=deep3d | {manifest} {to} --set threedmm.fitter=nose
        {manifest} {to} --stage {absent,note,garbage,empty}
    """,
    "check": "{absent,empty,note,unread} | s3://",
    "describe": "noses",
    "download": """
        {absent,note,garbage,empty} | {manifest} --retry nose | {manifest} --set download.nose=1 | {manifest} --set nose
    """,
    "evaluate": """
        --reference {absent,unread} --predicted {predicted} {to} | --reference {data} {to}
        --reference {data} --predicted {absent,empty,unread,note} {to} | --reference {data} --videos {absent} {to}
        --reference {data} --predicted {cut} --split test {to} --address none
        --reference {data} --videos {empty} {to} --address none
        --reference {data} --predicted {predicted} --split test --metrics fd_exp_eccv2022 --out {note} --address none
        --reference {data} --predicted {predicted} --metrics nose {to}
        --reference {data} --predicted {predicted} {predicted} {to}
        --reference {data} --predicted {predicted} {to} --split val --address none
    """,
    "export_vico": "{absent,empty,note,unread,cut,data} {to}",
    "import_vico": "{absent,empty,note,garbled,headless} {to}",
    "make_demo": "--out {note} | --out {note}/below",
    "predict": """
        {absent,empty,unread_run,other_run,garbage_run,cut_run} {data} {to} | {data} {to}
        {run} {absent,empty,unread,cut,note} {to} | {run} {data} --out {note} | {run} {data} --split val {to}
    """,
    "preview": """
        {absent,empty,unread}/media/x --out {out}.png | {note} --out {out}.png | {data}/media/nobody --out {out}.png
    """,
    "reextract": "{absent,empty,note,videos} --data {data} | {videos} --data {absent,empty,unread,cut}",
    "render": """
        {absent,empty,unread,cut} --data {data} {to} | {predicted} --data {absent,empty,unread,cut} {to}
        {predicted} --data {data} {to} --renderer pirender | {predicted} --data {data} {to} --split val
        {predicted} --data {data} {to} --renderer pirender --weights nose
        {predicted} --data {data} {to} --renderer pirender --weights {absent}
    """,
    "retry": "{absent,empty,note} --class failed | {data} --class nose",
    "setup": "",  # takes nothing
    "status": "{absent,empty,note,unread_ledger} | s3://",
    "train": """
        {absent,empty,note,unread} --listener random {to} | {cut} --listener random {to} --num-workers 0
        {data} --listener nose {to} | {data} --listener vico_lstm --preset nose {to}
        {data} --listener vico_lstm --set nose=1 {to} | {data} --listener vico_lstm --set nose {to}
        {data} --listener random --out {note}
        {data} --listener vico_lstm --set epochs=many {to} | {data} --listener vico_lstm --out {run}
        {data} --listener vico_lstm {to} --resume | {data} --listener vico_lstm --out {unread_run} --resume
        {data} --listener vico_lstm --out {garbage_run} --resume --num-workers 0
    """,
    "weights": "fetch nose | check nose | fetch pirender nose",
    "bench": "--only noses | --only stages --video {absent} | --only stages --video {note} --end 2",
    "study.compare_fitters": "{absent,empty,unread,note} {data} | {data} {absent} | {cut} {cut}",
    "study.learn_basis": """
        {absent,empty,unread,data} --name n {to} | {absent}.csv --name n {to} | {headless}/test.csv --name n {to}
        {faces}/absent.csv --name n {to} | {faces}/film.csv --name n {to} | {faces}/picture.csv --name n {to}
        {faces}/numbers.csv --name n {to}
    """,
    "study.measure_speech": """
        {absent,empty,note,speech,unread_speech} | {empty} --set nose.x=1 | {empty} --set asr.nose=1
        {empty} --set asr.backend=whisper --set asr.model=base.en | {empty} --write {absent}
    """,
    "study.random_set": "--out {note} | --out {note}/below | {to} --clips 0 | {to} --clips 9 --frames 9",
    "study.simulate": "--clips 0 | --stages 0",
}  # fmt: skip


def lines_of(text: str) -> Iterator[str]:
    for line in filter(None, map(str.strip, re.split(r"\s\|\s|\n", text))):
        names = re.search(r"\{(\w+(,\w+)+)\}", line)
        yield from (line.replace(names[0], f"{{{name}}}") for name in names[1].split(",")) if names else [line]


CASES = [(name, line) for name, text in BAD.items() for line in lines_of(text)]


ROW = "person,file,start_s,end_s,left,top,side\n"
NOTE = "nothing of the kind\n"
FILES = {  # what is wrong in `world`, beside what is cut in half or copied
    "note": NOTE,
    "unread/dataset.json": '{"shards": ',
    "unread_run/run.json": "{",
    "other_run/run.json": "{}",
    "unread_ledger/run.json": "{",
    "unread_ledger/ledger/started.json": "{",
    "headless/test.csv": "one,two\n1,2\n",
    **{f"videos/{clip}.mp4": NOTE for clip in ("nobody", "nothing")},
    **{f"faces/{name}": NOTE for name in ("film.mp4", "picture.png")},
    "faces/absent.csv": f"{ROW}p,absent.mp4,0,1,0,0,9\n",
    "faces/film.csv": f"{ROW}p,film.mp4,0,1,0,0,9\n",
    "faces/picture.csv": f"{ROW}p,picture.png,,,0,0,9\n",
    "faces/numbers.csv": f"{ROW}p,picture.png,,,a,b,c\n",
    "speech/a.wav": NOTE,
    "speech/a.json": '{"text": "nothing"}',
    "unread_speech/a.json": "{",
    "clips.csv": "source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split\na,0,1,left,,p,q,train\n",
    "manifest": '[dataset]\nname = "bad"\nclips = "clips.csv"\n'
    '[[sources]]\nid = "a"\npath = "note"\nlicence = "none"\n',
}
GARBAGE = ("garbage", "garbled/RLD_data.csv", "garbage_run/checkpoint.safetensors", "garbage_run/last.safetensors")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Path]:
    """A data set, a run and predictions that are sound, and much that is not."""
    root = tmp_path_factory.mktemp("world")
    data, run, predicted = (str(root / name) for name in ("data", "run", "predicted"))
    random_set.write_random_set(root / "data", random_set.Extent(clips=12, frames=600, people=4))
    few = ("--set", "epochs=1", "--num-workers", "0")
    assert train.main([data, "--listener", "vico_lstm", *few, "--out", run]) == 0
    assert predict.main([run, data, "--out", predicted]) == 0
    for copy in ("cut", "unread_ledger"):
        shutil.copytree(data, root / copy)
    for copy in ("unread_run", "other_run", "garbage_run", "cut_run"):
        shutil.copytree(run, root / copy)
    (root / "empty").mkdir()
    for name, content in {**FILES, **dict.fromkeys(GARBAGE, bytes(range(256)) * 8)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    shutil.copy(JOBS.parent / "stages" / "morphable" / "basis_media_v1.npz", root / "cut_basis")
    for path in (root / "cut_basis", *(root / "cut").glob("shards/*"), *(root / "cut_run").glob("*.safetensors")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return {path.name: path for path in (root / "absent", *root.iterdir())}


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
    out = tmp_path / "out"
    assert main(shlex.split(line.format(**world, out=out, to=f"--out {out}"))) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    assert NEXT.search(message), message

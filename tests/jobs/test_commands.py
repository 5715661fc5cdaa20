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
from jobs.votes.question import QUESTION

JOBS = Path(listing.__file__).parent
NO_COMMANDS = ("__init__", "__main__", "command")
COMMANDS = sorted(path.stem for path in JOBS.glob("*.py") if path.stem not in NO_COMMANDS)
STUDIES = sorted(path.stem for path in (JOBS / "study").glob("[!_]*.py"))
VERBS = "add|build|choose|give|name|predict|rename|run|say"
NEXT = re.compile(rf"python -m jobs|expected|allowed|known|there (are|is)|[;,] (\w+ )?({VERBS}) ", re.IGNORECASE)

# Command -> command lines that cannot be right, with names of `world` in braces: `{a,b}` stands for a line with each;
# `to` stands for `--out {out}`.
BAD = {
    "annotate": """
        {absent,empty,note,garbage,unread,cut} --annotator ada | {manifest} --annotator ../ada
        {manifest} --annotator ada --votes {note} | {manifest} --annotator ada --votes {bad_votes}
        {manifest} --annotator ada --adjudicate --fewest 0 | {manifest} --annotator ada --port 65536
    """,
    "build": """
        {absent,note,garbage,empty} {to} | {manifest} --out {note} | {manifest} --out {note}/below | {manifest} --out s3://
        {manifest} {to} --redo nose | {manifest} {to} --set nose.x=1 | {manifest} {to} --set blink.nose=1
        {manifest} {to} --set blink.threshold | {manifest} {to} --set blink.threshold=high
        {manifest} {to} --set threedmm.basis=nose | {manifest} {to} --set threedmm.basis={absent,garbage,cut_basis}
        {manifest} {to} --set threedmm.fitter=deep3d | {manifest} {to} --set threedmm.fitter=nose
        {manifest} {to} --stage {absent,note,garbage,empty}
    """,
    "check": "{absent,empty,note,unread} | s3://",
    "consolidate": """
        {absent,empty,note,garbage,unread,cut} {to} | {manifest} {to} | {manifest} {to} --fewest 0
        {manifest} {to} --votes {note,absent,empty,bad_votes}
        {manifest} --votes {votes} --out {note} | {manifest} --votes {votes} --out {note}/below
    """,
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
        --reference {data} --predicted {predicted} {to} --role speaker --address none
        --reference {data} --predicted {predicted} {to} --split val --address none
    """,
    "export_data": """
        {data} --layout nose {to} | {data} --layout vico | {data} --layout hub | {data} --layout hub --repo u/n {to}
        {absent,empty,note,unread,cut,data} --layout vico {to}
        {absent,empty,note,unread,cut,data} --layout vico_challenge {to}
        {absent,empty,note,unread,cut,data} --layout pairs {to} | {absent,empty,unread,cut} --layout webdataset {to}
        {absent,empty,note,unread,data} --layout dualtalk {to} | {data} --layout l2l {to} | {data} --layout unils {to}
        {data} --layout react2026 {to}
        {absent,empty,note,unread,cut,data} --layout hub --repo u/n
    """,
    "import_data": """
        {empty} --layout nose {to} | {garbled} --layout vico --challenge 2023 {to}
        {absent,empty,note,garbled} --layout vico {to} | {absent,empty,note,headless} --layout vico_challenge {to}
        {absent,empty,note} --layout pairs {to} | {absent,empty,note} --layout l2l {to}
        {absent,empty} --layout seamless {to} | {absent,empty,note} --layout react2026 {to}
        {absent,empty} --layout react2024 {to}
    """,
    "make_demo": "--out {note} | --out {note}/below",
    "mine": """
        {absent,note,garbage,empty,manifest} {to} | {films} --out {note} | {films} --out {note}/below
        {films} --out s3://b | {films} {to} --redo nose | {films} {to} --set nose.x=1 | {films} {to} --set spans.nose=1
        {films} {to} --set spans | {films} {to} --set spans.clips=nose | {films} {to} --set spans.min_s=long
        {films} {to} --set windows.window_s=0 | {films} {to} --set spans.max_s=0 | {films} {to} --set spans.min_s=-1
        {films} {to} --set encounters.backend=nose | {films} {to} --set blink.nose=1
    """,
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
        {predicted} --data {data} {to} --restore {absent,empty,note,garbage}
    """,
    "repair": "{absent,empty,note,unread,cut} | s3://",
    "respond": """
        {absent,empty,note} --listener {note} --run {run} --attitude neutral {to}
        {note} --listener {absent,empty} --run {run} --attitude neutral {to} | {note} --listener {note} --run {run} {to}
        {note} --listener {note} --run {absent,empty,unread_run,other_run,garbage_run,cut_run} {to}
        {note} --listener {note} --run {run} --attitude neutral {to} --samples 0
    """,
    "retry": "{data} --class failed --clips {absent} | {absent,empty,note} --class failed | {data} --class nose",
    "setup": "",  # takes nothing
    "status": "{absent,empty,note,unread_ledger} | s3://",
    "subset": """
        {absent,empty,note,unread,cut} --where "num_frames > 1" {to} | {data} --where nose {to} | {data} --where "" {to}
        {data} --where "num_frames > 1" --out {note} | {data} --where "num_frames > 1" --out {note}/below
        {data} --where "num_frames > 1" --out {data} | {data} --where "num_frames > 1" --out s3://b/c
        {data} --where "listener_blink > 1" {to} | {data} --where "num_frames < 1" {to}
    """,
    "train": """
        {absent,empty,note,unread} --listener random {to} | {cut} --listener random {to} --num-workers 0
        {data} --listener nose {to} | {data} --listener vico_lstm --preset nose {to}
        {data} --listener vico_lstm --role speaker {to} | {data} --listener vico_lstm --set nose=1 {to}
        {data} --listener vico_lstm --set nose {to}
        {data} --listener random --out {note}
        {data} --listener vico_lstm --set epochs=many {to} | {data} --listener vico_lstm --out {run}
        {data} --listener vico_lstm {to} --resume | {data} --listener vico_lstm --out {unread_run} --resume
        {data} --listener vico_lstm --out {garbage_run} --resume --num-workers 0
    """,
    "train_renderer": """
        {absent,empty,note,unread,cut,data} --preset small {to} | {data} {to} | {data} {to} --preset nose
        {data} {to} --preset small --set nose=1 | {data} {to} --preset small --set nose
        {data} {to} --preset small --set side_px=100 | {data} {to} --preset small --weights {absent,garbage}
        {data} {to} --preset small --set features={absent,garbage} | {data} {to} --preset small --set identity=arcface
        {data} {to} --resume | {data} --out {unread_run,other_run} --resume | {data} --out {run} --preset small
        {data} {to} --preset small --clips nobody | {data} --out {note} --preset small
    """,
    "view": """
        {absent,empty,note,unread,cut} | {data} {absent,empty,note,unread,cut} | {data} --static {note}
        {data} --static {data} | {data} --static {out} --clips nobody | s3:// | {data} --port 65536
        {data} --manifest {absent,note,garbage}
    """,
    "weights": "fetch nose | check nose | fetch pirender nose",
    "bench": """
        --only noses | --only stages --video {absent} | --only stages --video {note} --end 2
        --only mine --video {absent} | --only noses --against {absent} | --only mine --against {absent,empty,note}
        --fill {absent,empty,note} | --film {absent} 0 1 | --film {note} 2 1 | --film {note} nose 1
        --only gpu --device tpu | --only gpu --video {absent}
    """,
    "study.compare_fitters": "{absent,empty,unread,note} {data} | {data} {absent} | {cut} {cut}",
    "study.learn_basis": """
        {absent,empty,unread,data} --name n {to} | {absent}.csv --name n {to} | {headless}/test.csv --name n {to}
        {faces}/absent.csv --name n {to} | {faces}/film.csv --name n {to} | {faces}/picture.csv --name n {to}
        {faces}/numbers.csv --name n {to}
    """,
    "study.measure_mouths": "{absent,empty,note}",
    "study.measure_speech": """
        {absent,empty,note,speech,unread_speech} | {empty} --set nose.x=1 | {empty} --set asr.nose=1
        {empty} --set asr.backend=whisper --set asr.model=base.en | {empty} --write {absent}
    """,
    "study.random_set": "--out {note} | --out {note}/below | {to} --clips 0 | {to} --clips 9 --frames 9",
    "study.real_numbers": """
        {absent,empty,note,unread} {to} | {data} {to} --minutes 0 | {data} {to} --seeds 0 | {data} {to} --docs {empty}
        {data} {to} --listeners nose
    """,
    "study.simulate": "--clips 0 | --stages 0 | --ray --made-up",
    "study.who_is_who": "{absent,empty,note}",
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
    "bad_votes/ada.jsonl": "{\n{\n",
    "votes/ada.jsonl": f'{{"question": "{QUESTION}"}}\n'
    '{"number": 1, "utc": "", "uuid": "u", "clip_id": "a_000000_000001", "round": "first", "fingerprint": "f", '
    '"valid": false, "failed": ["two_people"], "in_frame": null, "out_frame": null, "side": null, "attitude": null, '
    '"unsure": false, "note": "", "seconds": 1}\n',
    "clips.csv": "source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split\na,0,1,left,,p,q,train\n",
    "films": '[dataset]\nname = "bad"\n[[sources]]\nid = "a"\npath = "note"\nlicence = "none"\n',
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

"""The file of votes: what was confirmed is there, whatever happens to processes, disk and the end of the file."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.votes.question import Answer
from jobs.votes.store import FIRST, REPEAT, VoteFile, vote_files
from schemas.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
YES = Answer(True, (), 0, 30, "left", "neutral", note="é\n")
NO = Answer(False, ("faces", "live"))


@pytest.fixture
def file(tmp_path: Path) -> VoteFile:
    return VoteFile(tmp_path / "my.votes", "ada")


def test_the_last_vote_on_a_clip_counts_and_a_vote_that_is_taken_back_leaves_the_one_before(file: VoteFile) -> None:
    file.vote("u1", "clip", FIRST, "f", YES)
    file.vote("u2", "clip", REPEAT, "f", YES)
    file.vote("u3", "clip", FIRST, "f", NO)
    assert file.standing()["clip", FIRST].answer == NO
    undo = file.undo("u4")
    assert undo and (undo.undo, undo.clip_id, undo.round) == (3, "clip", FIRST)
    assert file.standing()["clip", FIRST].answer == YES
    assert [file.undo(name).undo for name in ("u5", "u6")] == [2, 1] and file.undo("u7") is None
    assert not file.standing() and [vote.number for vote in file.votes()] == [1, 2, 3, 4, 5, 6]


def test_a_vote_or_undo_that_is_sent_twice_is_one_line(file: VoteFile) -> None:
    assert file.vote("u1", "a", FIRST, "f", YES) == file.vote("u1", "a", FIRST, "f", YES)
    file.vote("u2", "b", FIRST, "f", YES)
    assert file.undo("u3") == file.undo("u3")
    assert list(file.standing()) == [("a", FIRST)] and len(file.votes()) == 3


def test_the_file_opens_with_the_question_and_other_questions_votes_are_not_counted(file: VoteFile) -> None:
    file.vote("u1", "a", FIRST, "f", YES)
    head, line = file.path.read_text().splitlines()
    assert set(json.loads(head)) == {"question"} and json.loads(line)["attitude"] == "neutral"
    file.path.write_text(json.dumps({"question": "0" * 32}) + "\n" + line + "\n")
    for read in (file.votes, lambda: file.vote("u2", "a", FIRST, "f", NO)):
        with pytest.raises(UserError, match="another question"):
            read()


@pytest.mark.parametrize("damage", [b"{}\n", b"[1]\n", b"\n", b'{"number": 9}\n', b"\xff\n"])
def test_a_damaged_line_that_is_not_the_torn_last_one_is_an_error(file: VoteFile, damage: bytes) -> None:
    file.vote("u1", "a", FIRST, "f", YES)
    with file.path.open("ab") as stream:
        stream.write(damage)
    with pytest.raises(UserError, match="ada.jsonl"):
        file.votes()


@given(st.integers(1, 5), st.data())
def test_wherever_the_file_is_torn_whole_lines_count_and_the_next_vote_stands_behind_them(
    number: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = VoteFile(Path(folder), "ada")
        for i in range(number):
            file.vote(f"u{i}", f"clip-{i}", FIRST, "f", YES if i % 2 else NO)
        whole = file.path.read_bytes()
        torn = whole[: data.draw(st.integers(0, len(whole)))]
        file.path.write_bytes(torn)
        left = max(torn.count(b"\n") - 1, 0)
        assert [vote.clip_id for vote in file.votes()] == [f"clip-{i}" for i in range(left)]
        assert file.vote("new", "new", FIRST, "f", YES).number == left + 1
        assert [vote.uuid for vote in file.votes()] == [*(f"u{i}" for i in range(left)), "new"]


def test_nothing_that_was_confirmed_is_lost_when_the_process_is_killed_in_mid_vote(file: VoteFile) -> None:
    """Votes without end and says each once it is confirmed; killed at a moment of its own choice, five times over."""
    program = (
        "import itertools, sys; from pathlib import Path\n"
        "from jobs.votes.store import *; from jobs.votes.question import *\n"
        "file = VoteFile(Path(sys.argv[1]), 'ada'); start = len(file.votes())\n"
        "for i in itertools.count(start):\n"
        "    answer = Answer(False, ('faces',), note='x' * 900)\n"
        "    print(file.vote(f'u{i}', f'clip-{i}', FIRST, 'f', answer).number, flush=True)"
    )
    confirmed = 0
    for patience in (1, 7, 20, 33, 60):
        words = [sys.executable, "-c", program, str(file.path.parent)]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            said = [int(next(process.stdout)) for _ in range(patience)]
            process.send_signal(signal.SIGKILL)
            said += [int(line) for line in process.stdout if line.endswith("\n")]
        assert said == list(range(said[0], said[0] + len(said)))
        confirmed = said[-1]
        found = [vote.number for vote in file.votes()]
        assert found == list(range(1, len(found) + 1)) and len(found) in (confirmed, confirmed + 1)
    assert confirmed >= 121


def test_on_a_full_disk_a_vote_is_an_error_and_not_half_there(file: VoteFile) -> None:
    """A limit on the size of files stands for the disk: the write stops in the middle of the line."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from jobs.votes.store import *; from jobs.votes.question import *\n"
        "file = VoteFile(Path(sys.argv[1]), 'ada'); file.vote('u1', 'a', FIRST, 'f', Answer(False, ('faces',)))\n"
        "size = file.path.stat().st_size; resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, -1))\n"
        "try:\n    file.vote('u2', 'b', FIRST, 'f', Answer(False, ('faces',)))\n"
        "except OSError as error:\n    print(error.errno, file.path.stat().st_size == size)\n"
    )
    words = [sys.executable, "-c", program, str(file.path.parent)]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(errno.EFBIG), "True"]
    assert [vote.uuid for vote in file.votes()] == ["u1"]
    assert file.vote("u2", "b", FIRST, "f", NO).number == 2


def test_many_that_write_at_once_write_one_after_the_other(file: VoteFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: VoteFile(file.path.parent, "ada").vote(f"u{i}", f"c{i}", FIRST, "f", YES), range(40)))
    assert [vote.number for vote in file.votes()] == list(range(1, 41))


def test_an_annotator_is_a_name_and_no_path(tmp_path: Path) -> None:
    for name in ("../ada", "", "a b", "con", "x" * 65):
        with pytest.raises(UserError, match="annotator"):
            VoteFile(tmp_path, name)
    assert vote_files(tmp_path / "none") == []

"""More than a thousand bad files through the sandboxed reader: each ends as frames or as a reason, and none gets out.

The sample of the ordinary run and the whole of the slow one differ in number only. What "gets out" means is watched
from outside: canary files and folders by inotify, addresses on loopback by sockets that listen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.labs.media import ffmpeg_binary
from tests.labs.mutants import Specimen, Targets, every, make_seeds, read_whole
from tests.labs.ray_head import ROOT
from tests.labs.witness import WRITTEN, FolderWitness, PortWitness, witnesses

FAMILIES = ("flipped", "cut", "grafted", "lying", "nested", "misnamed", "leading")
SAMPLE = 40


@dataclass(frozen=True)
class Yard:
    """Where bad files are opened, watched on all sides."""

    folder: Path  # of the bad files
    canary: Path  # that nobody may touch
    specimens: dict[str, list[Specimen]]
    touched: FolderWitness
    written: list[FolderWitness]
    port: PortWitness

    def check(self, known: Sequence[str]) -> None:
        """Nobody has touched the canary, called out, or written anywhere but where the test itself did."""
        assert not self.touched.seen()
        assert not self.port.seen()
        for witness in self.written:
            assert not set(witness.seen()) - set(known)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder, canaries = tmp_path_factory.mktemp("yard"), tmp_path_factory.mktemp("canaries")
    seeds = make_seeds(tmp_path_factory.mktemp("seeds"))
    canary = canaries / "film.mp4"
    canary.write_bytes(seeds["mp4"])
    with ExitStack() as stack:
        touched, port = stack.enter_context(witnesses(canaries))
        written = [FolderWitness(place, WRITTEN) for place in (folder, ROOT, Path.home())]
        for witness in written:
            stack.callback(witness.close)
        yield Yard(folder, canary, every(seeds, Targets(canary, port.port)), touched, written, port)


def outcomes(yard: Yard, specimens: Sequence[Specimen]) -> Counter[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        count = Counter(pool.map(partial(read_whole, yard.folder), specimens))
    yard.check([specimen.name for specimen in specimens])
    return count


def test_a_sample_of_bad_files_is_read_or_refused_with_a_reason_and_none_gets_out(yard: Yard) -> None:
    whole = [specimen for family in yard.specimens.values() for specimen in family]
    count = outcomes(yard, whole[:: len(whole) // SAMPLE])
    assert count.total() >= SAMPLE
    assert count["read"] and count["unreadable"], "a fair sample holds both"


@pytest.mark.slow
@pytest.mark.timeout(900)  # hundreds of readers
@pytest.mark.parametrize("family", FAMILIES)
def test_all_bad_files_of_a_family_are_read_or_refused_with_a_reason_and_none_gets_out(yard: Yard, family: str) -> None:
    assert set(yard.specimens) == set(FAMILIES) and sum(map(len, yard.specimens.values())) >= 1000
    count = outcomes(yard, yard.specimens[family])
    print(family, count.total(), count.most_common())
    assert not count["decoder_crashed"] and not count["timed_out"], "no decoder is known to crash or hang on these"


def test_the_witnesses_see_what_a_reader_without_a_sandbox_does(yard: Yard, tmp_path: Path) -> None:
    """The very files that lead nowhere in ours lead ffmpeg's command line to the canary and to the port."""
    lax = {"ffconcat_path": ["-safe", "0"], "m3u8_http": ["-protocol_whitelist", "file,http,tcp"]}
    for name, options in lax.items():
        (specimen,) = (one for one in yard.specimens["leading"] if one.name.startswith(f"leading_{name}."))
        path = tmp_path / f"list.{name.split('_')[0]}"
        path.write_bytes(specimen.data)
        command = [ffmpeg_binary(), "-nostdin", "-loglevel", "error", *options, "-i", str(path), "-f", "null", "-"]
        with pytest.raises(subprocess.TimeoutExpired) if "http" in name else nullcontext():  # the port never answers
            subprocess.run(command, capture_output=True, timeout=5)
    assert yard.touched.seen()
    assert yard.port.seen()


@pytest.mark.slow
def test_the_kernel_sees_no_call_that_opens_a_file_or_a_socket_once_the_reader_is_confined(
    yard: Yard, tmp_path: Path
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    for specimen in yard.specimens["leading"][:: len(yard.specimens["leading"]) // 6]:
        path = tmp_path / specimen.name
        path.write_bytes(specimen.data)
        calls = tmp_path / f"calls of {specimen.name}"  # and a process: what several do at once stands apart
        program = (
            "import sys; from pathlib import Path; from pipeline.media.reader import MediaError, SourceReader\n"
            "with SourceReader(Path(sys.argv[1])) as reader:\n"
            "    try: list(reader.frames(reader.frame_times().pts))\n"
            "    except MediaError: pass"
        )
        command = [
            strace,
            "-ff",
            "-o",
            str(calls),
            "-e",
            "trace=%file,%network,%process,prctl",
            sys.executable,
            "-c",
            program,
        ]
        subprocess.run([*command, str(path)], cwd=ROOT, check=True, capture_output=True)
        logs = {log.suffix[1:]: log.read_text().splitlines() for log in tmp_path.glob(f"{calls.name}.*")}
        assert not list(escapes(logs)), specimen.name
    yard.check([])


def escapes(logs: dict[str, list[str]]) -> Iterator[str]:
    """Calls with success, after a process was confined, that reach a socket or a file outside of Python's folders."""
    confined = []
    for lines in logs.values():
        at = [k for k, call in enumerate(lines) if call.startswith("prctl(PR_SET_SECCOMP") and call.endswith("= 0")]
        confined += [lines[k + 1 :] for k in at[:1]]
    assert confined, "the reader was never confined"
    ours = tuple({sys.prefix, sys.base_prefix})
    harmless = re.compile(
        r"= -1 E|^(prctl|sendto|recvfrom|recvmsg|sendmsg|exit|exit_group)\b|AT_EMPTY_PATH|^[+-]{3}|\?$"
    )
    for lines in confined:  # grows: what a confined process starts is confined too
        for call in lines:
            if started := re.match(r"(?:clone3?|v?fork)\(.*= (\d+)$", call):
                confined.append(logs[started[1]])
            elif not harmless.search(call):
                path = re.search(r'"([^"]*)"', call)
                if not (path and path[1].startswith(ours)):
                    yield call

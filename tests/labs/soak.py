"""A soak: ``python -m tests.labs.soak --hours H --seed S``. Data sets live through everything that can happen to them.

A *life* is one data set, in a folder (a disk of its own, in memory) or in object storage. In every *chapter* of it the
inputs change: films, most of them bad, clips, settings, people withdrawn. Then its builds are disturbed by faults drawn
from `FAULTS`, and repaired; the end must be byte for byte what an undisturbed build of the same inputs makes, with
every clip accounted for. Then its files are damaged at rest: all damage must be named and nothing else, and be undone.
Beside that bad media of all families are read, watched for break-outs. A bug ends its life, and is kept with its files.

The diary is ``FOLDER/diary.jsonl``; the last line is the summary, which is printed as well. Exit status 1 after bugs.
Where a new kind of fault belongs: a function of a life, and a line in `FAULTS`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from jobs import build, repair
from pipeline import processes
from pipeline.dataset.check import check_dataset
from pipeline.dataset.damage import FOREIGN, find_damage
from pipeline.dataset.lock import Lease, locked
from pipeline.dataset.read import read_clips
from pipeline.dataset.storage import Location, location
from pipeline.dataset.store import Store
from pipeline.ledger.survey import read_ledger
from pipeline.part import run_here
from schemas.outcome import OUTCOMES
from tests.labs import relay
from tests.labs.kill import FORKED
from tests.labs.leftovers import ancestors, command_of, end, end_all, processes_with
from tests.labs.mutants import Specimen, Targets, every, make_seeds, read_whole
from tests.labs.rot import contents, damage
from tests.labs.s3_server import Server, s3_server
from tests.labs.toy_build import HEADER, LENGTH, PEAK, WAVE, write_manifest
from tests.labs.witness import witnesses

HERE, WORKERS, RAY = "here", "none", "local"  # where parts run: in the command's own process, or an address
PLACES = (HERE,) * 16 + (WORKERS,) * 3 + (RAY,)
QUICK = Lease(renew_s=0.3, lost_s=3.0)  # the server's clock ticks in seconds
ROOM = "size=64m"  # of a life in a folder
STAGES = ("clip", "wave", "peak", "length")
READ = 100  # bad media a chapter, beside those that go through builds
PATIENCE_S = 20.0  # for what a killed command has started
STUCK_S = 600.0  # no command takes so long
MUST_BE_0 = ("clips unaccounted for", "bytes of difference", "bugs")
COUNTED = ("kills", "mutated inputs", "films through builds", "flips", *MUST_BE_0)
SETTINGS = """
[stages.clip]
min_s = 0.3
full_frame = {full_frame}
[stages.wave]
gain = {gain}
[stages.limits]  # kills from outside are no clip's fault here
attempts = 1000
attempts_in_all = 100000
"""


class Bug(Exception):
    """What must not happen, in words for the diary."""


class Soak:
    """The diary, its counts, and where everything stands."""

    def __init__(self, folder: Path, seed: int, targets: Targets, server: Server, storage: relay.Relay) -> None:
        self.folder, self.random, self.server, self.storage = folder, random.Random(seed), server, storage
        self.began, self.counts = time.monotonic(), Counter[str]()
        self.good = make_seeds(folder)
        self.bad = self._bad(targets)

    def _bad(self, targets: Targets) -> Iterator[Specimen]:
        """Bad media without end, no family left out for long."""
        while True:
            drawn = every(self.good, targets, self.random.randrange(1, 2**31))
            mixed = [one for family in drawn.values() for one in family]
            self.random.shuffle(mixed)
            yield from mixed

    def note(self, event: str, **facts: Any) -> None:
        """A line of the diary; bugs are told at once."""
        line = {"at_s": round(time.monotonic() - self.began, 2), "event": event, **facts}
        with (self.folder / "diary.jsonl").open("a") as diary:
            diary.write(json.dumps(line) + "\n")
        if event == "bug":
            print(json.dumps(line), flush=True)

    def live(self, until: float) -> None:
        """One life, until its end, a bug, or that moment."""
        self.counts["lives"] += 1
        with ExitStack() as stack:
            life = Life(self, stack)
            try:
                for _ in range(self.random.randint(2, 5)):
                    life.chapter()
                    self.counts["chapters"] += 1
                    if time.monotonic() > until:
                        break
            except Exception as error:
                self.counts["bugs"] += 1
                self.storage.mode = relay.CALM
                kept = self.folder / f"bug-{self.counts['bugs']}"
                shutil.copytree(life.folder, kept, ignore=shutil.ignore_patterns("out"))
                for name, content in contents(life.root).items():
                    (kept / "root" / name).parent.mkdir(parents=True, exist_ok=True)
                    (kept / "root" / name).write_bytes(content)
                told = str(error) if isinstance(error, Bug) else traceback.format_exc()
                self.note("bug", life=self.counts["lives"], kept=str(kept), what=told)
                print(f"bug {self.counts['bugs']}: {told}\nkept in {kept}", file=sys.stderr, flush=True)
        shutil.rmtree(life.folder)

    def read_bad_media(self) -> None:
        """Bad media through the sandboxed reader alone."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for _ in range(READ):
                specimen = next(self.bad)
                self.counts["mutated inputs"] += 1
                try:
                    read_whole(Path(folder), specimen)
                except Exception:
                    self.counts["bugs"] += 1
                    (self.folder / f"bug-{specimen.name}").write_bytes(specimen.data)
                    self.note("bug", specimen=specimen.name, what=traceback.format_exc())

    def summary(self) -> dict[str, Any]:
        """What docs/reliability.md has a column for, and the rest."""
        hours = round((time.monotonic() - self.began) / 3600, 2)
        return {"hours": hours, **{name: self.counts[name] for name in COUNTED}, **self.counts}


class Inputs:
    """A manifest that changes: its films, clips, settings, and who was withdrawn."""

    def __init__(self, folder: Path, soak: Soak, good: int, bad: int) -> None:
        self.folder, self.soak, self.chance = folder, soak, soak.random
        self.sources: dict[str, str] = {}
        self.rows: list[str] = []
        self.withdrawn: list[str] = []
        self.gain, self.full_frame, self.version = 1.0, False, 1
        for name in self.chance.sample(sorted(soak.good), good):
            self._film(f"good{len(self.sources)}", name, soak.good[name], ("0,0.5", "0.6,1.1"))
        self.bad_films(bad)
        self.changes: dict[str, Callable[[], Any]] = {
            "bad films": partial(self.bad_films, 16),
            "new clips": self._clips,
            "another film under a name": self._exchange,
            "a setting": self._setting,
            "a stage's code": self._code,
            "somebody withdrawn": self._withdraw,
        }

    def bad_films(self, count: int) -> None:
        for _ in range(count):
            one = next(self.soak.bad)
            self.soak.counts.update(["mutated inputs", "films through builds"])
            self._film(f"{one.family}{len(self.sources)}", one.name.rpartition(".")[2] or "mp4", one.data, ("0,1",))

    def _film(self, name: str, suffix: str, data: bytes, spans: tuple[str, ...]) -> None:
        self.sources[name] = f"{name}.{suffix}"
        (self.folder / self.sources[name]).write_bytes(data)
        for span in spans:
            self._row(name, span)

    def _row(self, name: str, span: str) -> None:
        split = "test" if name[-1] in "0369" else "train"
        self.rows.append(f"{name},{span},left,,p{name},q{name},{split},{name}_{len(self.rows)}")

    def _clips(self) -> None:
        for name in self.chance.sample(sorted(self.sources), 3):
            start = self.chance.randrange(50) / 100
            self._row(name, f"{start:.2f},{start + 0.5:.2f}")

    def _exchange(self) -> None:
        name = self.chance.choice(sorted(self.sources))
        self.soak.counts.update(["mutated inputs", "films through builds"])
        (self.folder / self.sources[name]).write_bytes(next(self.soak.bad).data)

    def _setting(self) -> None:
        if self.chance.random() < 0.3:
            self.full_frame = not self.full_frame
        else:
            self.gain = self.chance.randrange(1, 1000) / 10

    def _code(self) -> None:
        self.version += 1

    def _withdraw(self) -> None:
        source = self.chance.choice(sorted(self.sources))
        self.withdrawn.append(self.chance.choice([source, f"p{source}", f"q{source}"]))

    def write(self) -> list[str]:
        """The files of the manifest as it is now; the words of a build of it."""
        peak = PEAK.replace("reads =", f"version = {self.version}\n    reads =")
        stages = {"wave": WAVE, "peak": peak, "length": LENGTH}
        for name, text in stages.items():
            (self.folder / f"{name}.py").write_text(text)
        more = f"stages = {[*STAGES]}\ntakedown = {json.dumps(self.withdrawn)}\n"
        (self.folder / "clips.csv").write_text("\n".join([f"{HEADER},clip_id", *self.rows]) + "\n")
        manifest = write_manifest(self.folder / "soak.toml", self.sources, more=more)
        settings = SETTINGS.format(gain=self.gain, full_frame=str(self.full_frame).lower())
        manifest.write_text(manifest.read_text() + settings)
        return [str(manifest), *(f"--stage={self.folder / name}.py" for name in stages)]


class Life:
    """One data set, and the commands that work on it."""

    def __init__(self, soak: Soak, stack: ExitStack) -> None:
        self.soak, self.chance, self.counts = soak, soak.random, soak.counts
        self.folder = soak.folder / f"life-{self.counts['lives']}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.out = str(self.folder / "out")
        remote = self.chance.random() < 0.15
        self.inputs = Inputs(self.folder, soak, *((2, 6) if remote else (5, 24)))  # the server takes its time
        if remote:
            address = soak.server.bucket(f"life-{self.counts['lives']}")
            self.out = address.replace(str(soak.server.port), str(soak.storage.port))
        else:
            stack.enter_context(disk(Path(self.out)))
        self.root: Location = location(self.out)
        self.words: list[str] = []
        self.seconds = 0.0  # of an undisturbed build
        self.damaged = False  # whether a command may meet files that are not what was written
        self.complete = False  # whether a build would find nothing to do

    def chapter(self) -> None:
        changes = self.chance.choices(sorted(self.inputs.changes), k=self.chance.randint(1, 3)) if self.words else []
        for change in changes:
            self.inputs.changes[change]()
        self.words, self.complete = self.inputs.write(), False
        self.soak.note("chapter", life=self.counts["lives"], out=self.out, changes=changes, clips=len(self.inputs.rows))
        calm = self._calm()
        for fault in self.chance.choices(FAULTS, WEIGHTS, k=self.chance.randint(3, 7)):
            if fault not in (REMOTE if isinstance(self.root, Path) else LOCAL):
                fault(self)
        self.mend()
        self.compare(calm)
        for _ in range(2 if isinstance(self.root, Path) else 1):
            self.rest()
        self.soak.read_bad_media()

    def _calm(self) -> Path:
        calm = self.folder / "calm"
        shutil.rmtree(calm, ignore_errors=True)
        began = time.monotonic()
        self.expect({0}, self.start("build", HERE, str(calm)))
        self.seconds = time.monotonic() - began
        return calm

    # --- commands

    def start(self, name: str, place: str, out: str = "", *, redo: bool = False) -> Running:
        """A command in a process of its own, which can be killed."""
        words = [*self.words, "--out", out or self.out] if name == "build" else [self.out]
        words += [f"--redo={self.chance.choice(STAGES)}"] if redo else []
        return Running(name, place, words, self.log)

    def disturbed(self, place: str = "") -> Running:
        """A build that is about to be disturbed; one that would find nothing to do is told to do something again."""
        command = self.start("build", place or self._place(), redo=self.complete)
        self.complete = False
        return command

    def expect(self, allowed: set[int], command: Running, why: str = "") -> int:
        """Wait for a command's end: it must be one of these, without a traceback, and leave no process."""
        status, told = command.ended()
        self.soak.note("ended", command=command.name, place=command.place, status=status, why=why)
        if "Traceback" in told or status not in allowed:
            raise Bug(f"{command.name} ({command.place}) after {why or 'nothing'}: status {status}:\n{told[-3000:]}")
        return status

    @property
    def ends(self) -> set[int]:
        """How a build may end that nobody disturbs now."""
        return {0, 2} if self.damaged else {0}

    def mend(self) -> None:
        """What a person does: repair what is damaged, build, look; again where it was said so."""
        self.soak.storage.mode = relay.CALM
        for _ in range(4):
            self.expect({0, 1, 2}, self.start("repair", self._place()), "repair")
            status = self.expect(self.ends, self.start("build", self._place()), "last build")
            if status == 0 and not [one for one in find_damage(self.root) if one.kind != FOREIGN]:
                break
        self.damaged = False

    def _place(self) -> str:
        return self.chance.choice(PLACES)

    # --- what must be true

    def compare(self, calm: Path) -> None:
        """Everything that is published is what an undisturbed build made, and every clip has its end."""
        findings = list(check_dataset(self.root))
        ours, theirs = (published(root) for root in (self.root, calm))
        differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
        self.counts["bytes of difference"] += sum(unequal(ours.get(n, b""), theirs.get(n, b"")) for n in differing)
        ends, wanted = outcomes(self.root), outcomes(calm)
        lost = {row.rpartition(",")[2] for row in self.inputs.rows} - {clip for clip, _ in ends}
        lost |= {clip for clip, _ in ends.keys() ^ wanted.keys()}
        lost |= {clip for (clip, _), (outcome, *_) in ends.items() if outcome not in OUTCOMES}
        self.counts["clips unaccounted for"] += len(lost)
        other = [(key, ends[key], wanted[key]) for key in ends.keys() & wanted.keys() if ends[key] != wanted[key]]
        clips = len({clip for clip, _ in ends})
        self.counts["clips"] += clips
        self.soak.note("compared", files=len(theirs), clips=clips, differing=sorted(differing), lost=sorted(lost))
        if findings or differing or lost or other:
            raise Bug(f"findings {findings[:9]}\ndiffering {sorted(differing)[:9]}\nlost {lost}\noutcomes {other[:9]}")

    def rest(self) -> None:
        """Damage at rest is named, nothing else is, and it is undone to the same bytes."""
        before = contents(self.root)
        done = damage(self.root, self.chance, self.chance.randint(2, 8))
        self._count(done)
        found = {one.name: one.kind for one in find_damage(self.root)}
        self.soak.note("rest", done=done, found=found)
        if found.keys() != done.keys():
            raise Bug(f"damaged {done}\nfound {found}")
        status = self.expect({0, 2}, self.start("repair", self._place()), f"damage {done}")
        if status == 2:  # who forgot the command is told to give it
            self.expect({0}, self.start("build", self._place()), f"damage {done}")
        after, findings = contents(self.root), list(find_damage(self.root))
        wrong = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        self.counts["bytes of difference"] += sum(unequal(before.get(n, b""), after.get(n, b"")) for n in wrong)
        if wrong or findings:
            raise Bug(f"damaged {done}\nafter repair (status {status}) other bytes in {wrong}, findings {findings}")

    def _count(self, done: dict[str, str]) -> None:
        self.counts["flips"] += sum(way == "flip" for way in done.values())
        self.counts["other damages"] += sum(way != "flip" for way in done.values())

    # --- faults

    def _moment(self) -> float:
        """When to disturb a build, in seconds from its start: mostly early, for there may be little left to do."""
        return self.seconds * 0.8 * self.chance.random() ** 2

    def killed(self) -> None:
        """A build is killed."""
        command = self.disturbed()
        command.live(self._moment())
        self.counts["kills"] += command.kill()
        self.complete = self.expect(self.ends | {-9}, command, "kill") == 0

    def children_killed(self) -> None:
        """Processes that a build has started are killed: workers, watchdogs, decoders; the build goes on."""
        place = self._place()
        command, victims = self.disturbed(place), []
        for _ in range(self.chance.randint(1, 3)):
            while not command.children() and command.process.is_alive():
                command.live(0.02)
            command.live(self._moment() / 4)
            if children := command.children():
                victim = self.chance.choice(sorted(children))
                victims.append(children[victim])
                end(victim)
        self.counts["kills"] += len(victims)
        any_end = {0, 1, 2, -6, -9, -15} if place == RAY else self.ends  # Ray's own processes may take it down
        self.complete = self.expect(any_end, command, f"kill of {victims}") == 0

    def full_disk(self) -> None:
        """The disk is nearly full while a build runs."""
        assert isinstance(self.root, Path)
        state = os.statvfs(self.root)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        mount(self.root, f"size={used + self.chance.randrange(4096, 400_000)}")
        self.complete = self.expect({0, 2}, self.disturbed(), "full disk") == 0
        self.counts["full disks"] += not self.complete
        mount(self.root, ROOM)

    def two_builds(self) -> None:
        """Two builds at once: one goes on, the other is refused, or comes when the first has ended."""
        both = [self.disturbed()]
        both[0].live(self._moment())
        both.append(self.disturbed())
        self.counts["two builds at once"] += 1
        ends = [self.expect({0, 2}, command, "two builds") for command in both]
        self.complete = 0 in ends
        if not self.damaged and isinstance(self.root, Path) and 0 not in ends:
            raise Bug("two builds at once, and neither went on")

    def storage_fault(self) -> None:
        """Object storage is away, slow, cuts off, or says that it is busy, for some seconds."""
        command, mode = self.disturbed(), self.chance.choice(relay.FAULTS)
        command.live(self._moment())
        self.soak.storage.mode = mode
        command.live(self.chance.uniform(0.2, 4.0))
        self.soak.storage.mode = relay.CALM
        self.counts["storage faults"] += 1
        self.complete = self.expect({0, 2}, command, f"storage {mode}") == 0

    def rot(self) -> None:
        """Files of a data set that may not be finished are damaged."""
        done = damage(self.root, self.chance, self.chance.randint(1, 3))
        self.damaged |= bool(done)
        self._count(done)
        self.soak.note("rot", done=done)


Fault = Callable[[Life], None]
WEIGHED: dict[Fault, int] = {
    Life.killed: 8,
    Life.children_killed: 4,
    Life.full_disk: 2,
    Life.two_builds: 1,
    Life.storage_fault: 4,
    Life.rot: 2,
}
FAULTS, WEIGHTS = list(WEIGHED), list(WEIGHED.values())
LOCAL, REMOTE = {Life.full_disk}, {Life.storage_fault}


class Running:
    """A command of ours at work in a process, whose children bear its mark."""

    def __init__(self, name: str, place: str, words: list[str], log: Path) -> None:
        self.name, self.place, self.log = name, place, log
        self.mark = uuid.uuid4().hex
        self.seen = log.stat().st_size if log.exists() else 0
        self.process = FORKED.Process(target=work, args=(dict(os.environ), self.mark, name, place, words, log))
        self.process.start()

    def live(self, seconds: float) -> None:
        self.process.join(seconds)

    def kill(self) -> bool:
        """Kill it; whether it was still at work."""
        at_work = self.process.is_alive()
        self.process.kill()
        return at_work

    def children(self) -> dict[int, str]:
        """Processes below it."""
        every = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        return {p: told for p in every if self.process.pid in ancestors(p) and (told := command_of(p)[:80])}

    def ended(self) -> tuple[int, str]:
        """Exit status, and what it said; raises if it does not end, or leaves processes behind."""
        self.process.join(STUCK_S)
        if self.process.is_alive():
            end_all(self.mark)
            self.process.kill()
            raise Bug(f"{self.name} ({self.place}) does not end")
        deadline = time.monotonic() + PATIENCE_S
        while (left := processes_with(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        end_all(self.mark)
        if left and self.place != RAY:  # Ray's agents take their time to find that they are alone
            raise Bug(f"{self.name} ({self.place}) left behind: {left}")
        with self.log.open() as log:
            log.seek(self.seen)
            told = log.read()
        assert self.process.exitcode is not None
        return self.process.exitcode, told


def work(environment: dict[str, str], mark: str, name: str, place: str, words: list[str], log: Path) -> None:
    """What a process of `Running` does: a command line of ours. The environment holds credentials."""
    os.environ.update(environment, VICO_LAB=mark)
    tempfile.tempdir = None
    with log.open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    main = {"build": build.main, "repair": repair.main}[name]
    address = WORKERS if place == HERE else place
    quick = partial(locked, lease=QUICK)
    with mock.patch.object(build, "locked", quick), mock.patch.object(repair, "locked", quick), ExitStack() as stack:
        if place == HERE:
            stack.enter_context(mock.patch.object(processes, "run_parts", run_in_this_process))
        print(f"--- {name} {place} {words}", flush=True)
        status = main([*words, "--address", address])
    sys.exit(status)


def run_in_this_process(job: Any, pipeline: Any, parts: Any, workers: int | None = None) -> Any:
    """As `processes.run_parts`, without the seconds that an interpreter takes to begin."""
    return run_here(job, pipeline, parts)


def published(root: Location) -> dict[str, bytes]:
    """What whoever trains sees of a data set: the same bytes whatever its history."""
    seen = ("shards/", "dataset.json", "README.md", *(f"media/{clip['clip_id']}/" for clip in read_clips(root, [])))
    return {name: content for name, content in contents(root).items() if name.startswith(seen)}


def outcomes(root: Location) -> dict[tuple[str, str], tuple[str, str, str]]:
    """(clip, stage) -> outcome, reason and detail, as the ledger has it."""
    rows = read_ledger(Store(root))
    return {(row["clip_id"], row["stage"]): (row["outcome"], row["reason"], row["detail"]) for row in rows}


def unequal(ours: bytes, theirs: bytes) -> int:
    """How many bytes differ."""
    return sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """A file system of its own, in memory."""
    folder.mkdir()
    mount(folder, ROOM)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount(folder: Path, size: str) -> None:
    """Mount a disk of this size, or give it this size."""
    kind = ["-o", f"remount,{size}"] if folder.is_mount() else ["-t", "tmpfs", "-o", size, "tmpfs"]
    subprocess.run(["mount", *kind, folder], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--folder", type=Path, help="for the diary and what bugs leave; default: a new one")
    options = parser.parse_args()
    processes.exit_when_terminated()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="soak-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, diary {folder / 'diary.jsonl'}", flush=True)
    with ExitStack() as stack:
        canaries, commands = (Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="t"))) for _ in range(2))
        (canaries / "film.mp4").write_bytes(b"canary")
        os.environ["TMPDIR"] = str(commands)  # theirs, not ours: what they leave goes with it
        server = stack.enter_context(s3_server())
        storage = stack.enter_context(relay.relay(server.port))
        files, port = stack.enter_context(witnesses(canaries))
        soak = Soak(folder, options.seed, Targets(canaries / "film.mp4", port.port), server, storage)
        soak.note("begins", seed=options.seed, hours=options.hours)
        until = soak.began + 3600 * options.hours
        while time.monotonic() < until:
            soak.live(until)
            if files.seen() or port.seen():
                soak.counts["bugs"] += 1
                soak.note("bug", what="a bad film got out: the canary was touched")
            print(json.dumps(soak.summary()), flush=True)
    soak.note("summary", seed=options.seed, **soak.summary())
    return 1 if any(soak.counts[name] for name in MUST_BE_0) else 0


if __name__ == "__main__":
    sys.exit(main())

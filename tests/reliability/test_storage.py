"""Data sets on object storage: a real S3 server, the same bytes as in a folder, nothing half-written, one builder."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import build as build_job
from jobs import check as check_job
from pipeline.build import BuildOptions
from pipeline.dataset import storage
from pipeline.dataset.check import check_dataset
from pipeline.dataset.checksums import LISTS, notes
from pipeline.dataset.claim import Claim, Superseded
from pipeline.dataset.damage import clear_damage, find_damage
from pipeline.dataset.lock import LEASE, Lease, locked
from pipeline.dataset.read import media_file, read_clips, read_plain
from pipeline.dataset.storage import ObjectPath, location
from pipeline.dataset.store import Store
from schemas.errors import UserError
from tests.labs import rot
from tests.labs.kill import FORKED
from tests.labs.ray_head import ROOT
from tests.labs.relay import BUSY, CALM, relay
from tests.labs.s3_server import KEY_ID, SECRET, Server, build_there, s3_server, upload_there
from tests.labs.toy_build import ToyProject, computed

QUICK = Lease(renew_s=0.3, lost_s=3.0)  # the server's clock ticks in seconds
OF_A_RUN = ("report.json", "started.json")  # what every run says of itself
KILLS = 8  # of one data set: the tenth death of a clip, kills from outside included, would give it up
READER = '''"""A stage that reads another stage's file."""
from pipeline.stage import Stage
from schemas.column import Column


class Reader(Stage):
    reads = ("note",)
    writes = (Column("words", "int32"),)

    def process(self, clip):
        return {"words": len(clip.path("note").read_text().split())}
'''


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def toy(tmp_path: Path) -> ToyProject:
    project = ToyProject(tmp_path)
    project.add_stage("reader", READER)
    return project


def contents(root: Path | ObjectPath) -> dict[str, bytes]:
    """Every file of a data set that its content decides: shards, columns, media."""
    if isinstance(root, ObjectPath):
        found = {path.key.removeprefix(f"{root.key}/"): path.read_bytes() for path in root.glob("**")}
    else:
        found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {k: v for k, v in found.items() if k.startswith(("shards/", "columns/", "media/", "dataset.json"))}


def test_a_folder_and_object_storage_hold_the_same_bytes(server: Server, toy: ToyProject) -> None:
    remote = server.root("same-bytes")
    toy.build("local")
    report = toy.build(remote)
    assert computed(report) == {"wave": 4, "peak": 3, "reader": 3}
    here, there = contents(toy.folder / "local"), contents(remote)
    assert here == there and sum(name.startswith("shards/") for name in here) == 2
    assert list(check_dataset(remote)) == []


def test_a_second_build_on_object_storage_computes_and_writes_nothing(server: Server, toy: ToyProject) -> None:
    remote = server.root("second")
    toy.build(remote)
    before = {path: path.modified_s() for path in remote.glob("**") if path.name not in OF_A_RUN}
    time.sleep(1.1)  # the server's clock ticks in seconds
    report = toy.build(remote)
    assert computed(report) == {} and report.shards_written == 0
    after = {path: path.modified_s() for path in remote.glob("**") if path.name not in OF_A_RUN}
    told_anew = ("ledger/clips.parquet", *LISTS)
    assert {p for p in before if before[p] != after[p]} <= {remote / name for name in told_anew}


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_random_damage_to_any_objects_is_found_named_and_undone_to_the_same_bytes(
    server: Server, toy: ToyProject, chance, rounds: int
) -> None:
    remote = server.root(f"damaged-{rounds}")
    toy.build(remote)
    undisturbed = rot.contents(remote)
    for _ in range(rounds):
        hit = rot.damage(remote, chance, 5)
        found = list(find_damage(remote))
        assert {one.name for one in found} == {*hit}, hit
        clear_damage(Store(remote, journal=True), found)
        toy.build(remote)
        assert rot.contents(remote) == undisturbed and list(find_damage(remote)) == [], hit


def test_a_changed_setting_recomputes_on_object_storage_as_in_a_folder(server: Server, toy: ToyProject) -> None:
    remote, louder = server.root("changed"), BuildOptions({"wave": {"gain": 2.0}})
    toy.build(remote)
    assert computed(toy.build(remote, louder)) == {"wave": 4, "peak": 3, "reader": 3}
    assert computed(toy.build(remote, BuildOptions(louder.overrides, ("peak",)))) == {"peak": 3, "reader": 3}
    toy.build("local", louder)
    assert contents(remote) == contents(toy.folder / "local")


def test_clips_are_read_and_withdrawn_on_object_storage(server: Server, toy: ToyProject) -> None:
    remote = server.root("reading")
    toy.build(remote)
    rows = list(read_clips(remote, ["wave", "note"]))
    assert [row["wave"].shape for row in rows] == [(row["num_frames"], 2) for row in rows] and len(rows) == 3
    gone = rows[0]["clip_id"]
    (remote / "takedown.txt").write_bytes(gone.encode())
    assert [row["clip_id"] for row in read_clips(remote)] == [row["clip_id"] for row in rows[1:]]
    toy.build(remote)
    assert not [path for path in remote.glob("**") if gone in path.key]
    assert list(check_dataset(remote)) == []


def test_damage_on_object_storage_is_found(server: Server, toy: ToyProject) -> None:
    remote = server.root("damage")
    toy.build(remote)
    (remote / "media" / "a_000000_000001" / "note.txt").unlink()
    (remote / "shards" / "ood-00000-of-00001.parquet").write_bytes(b"PAR1")
    (remote / "columns" / "wave" / "part-00000.parquet").unlink()
    findings = "\n".join(check_dataset(remote))
    for expected in ("note.txt is missing", "ood-00000-of-00001.parquet: cannot be read", "lacks fingerprint"):
        assert expected in findings


@pytest.mark.parametrize("relative", ["/etc/passwd", "../secret.wav", "media/../../secret.wav", "media", "shards/x"])
def test_a_clip_on_object_storage_that_names_a_file_elsewhere_is_refused(relative: str) -> None:
    with pytest.raises(UserError, match="a clip names the file .*, expected one that lies in"):
        media_file(location("s3://bucket/set"), relative)


def test_an_extension_type_on_object_storage_is_refused(server: Server, tmp_path: Path) -> None:
    remote, field = server.root("extension") / "x.parquet", pa.field("a", pa.int32())
    for metadata, refused in (({}, False), ({"ARROW:extension:name": "test.any"}, True)):
        schema = pa.schema([field.with_metadata(metadata)])
        pq.write_table(pa.table([pa.array([1], pa.int32())], schema=schema), tmp_path / "x.parquet")
        remote.upload(tmp_path / "x.parquet")
        with pytest.raises(UserError, match="extension type") if refused else nullcontext():
            assert read_plain(remote).num_rows == 1


def test_local_copies_do_not_go_where_somebody_else_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = location("s3://bucket/set")
    place = Store(root).local.parent
    assert place.stat().st_mode & 0o777 == 0o700
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is not ours"):
        Store(root)


@pytest.mark.slow
def test_the_jobs_take_an_address_and_find_endpoint_and_credentials_where_aws_tools_do(
    server: Server, toy: ToyProject
) -> None:
    server.bucket("jobs")
    for program, arguments in (("build", toy.arguments("s3://jobs/set")), ("check", ["s3://jobs/set"])):
        command, environment = [sys.executable, "-m", f"jobs.{program}", *arguments], os.environ | server.environment
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        assert SECRET not in result.stdout + result.stderr
    root = location(f"s3://jobs/set?endpoint_override=127.0.0.1:{server.port}&scheme=http")
    assert isinstance(root, ObjectPath)
    objects = {path.key: path.read_bytes() for path in root.glob("**")}
    assert "jobs/set/dataset.json" in objects and "jobs/set/report.json" in objects
    assert not [key for key, content in objects.items() if SECRET.encode() in content or KEY_ID.encode() in content]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://key:hidden@bucket/set", "no credentials in an address"),
        ("ftp://key:hidden@bucket/set", "expected a folder or s3://"),
        ("s3://Bad_Bucket/hidden", "a bucket of 3 to 63"),
        ("s3://bucket/../hidden", "expected s3://bucket/prefix"),
        ("s3://bucket/a//b", "expected s3://bucket/prefix"),
        ("s3://bucket/set?secret_key=hidden", "unknown option secret_key"),
        ("s3://", "a bucket of 3 to 63"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_without_repeating_a_secret(address, message, capsys) -> None:
    with pytest.raises(UserError, match=message) as error:
        location(address)
    if "@" in address or "secret" in address:
        assert "hidden" not in str(error.value)
        assert check_job.main([address]) == 2
        assert "hidden" not in capsys.readouterr().err


def test_a_bucket_that_is_not_there_is_an_error_and_no_traceback(server: Server, toy: ToyProject, capsys) -> None:
    address = f"s3://no-such-bucket/set?endpoint_override=127.0.0.1:{server.port}&scheme=http"
    assert build_job.main([str(toy.manifest), "--out", address]) == 2
    assert "no-such-bucket" in capsys.readouterr().err


# --- the guarantees of one object


def killed(work: Callable[..., None], *arguments: object, after_s: float) -> int:
    """Kill a process so long after it said that its work begins; returns how it ended."""
    said, says = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=work, args=(dict(os.environ), says, *arguments))
    process.start()
    says.close()
    assert said.recv() == "begins"
    time.sleep(after_s)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_an_upload_that_is_killed_leaves_the_old_object(server: Server) -> None:
    target = server.root("killed-upload") / "big.bin"
    target.write_bytes(b"old")
    assert killed(upload_there, f"s3://killed-upload/sets/toy?{target.options}", after_s=0.3) == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_an_upload_that_fails_leaves_the_old_object(server: Server, tmp_path: Path) -> None:
    target = server.root("failed-upload") / "x.parquet"
    target.write_bytes(b"old")
    with pytest.raises(OSError):
        target.upload(tmp_path / "missing.parquet")
    assert target.read_bytes() == b"old"


# --- one build at a time


def test_of_two_builds_on_object_storage_the_second_is_refused_with_host_and_process(server: Server) -> None:
    root = server.root("two-builds")
    with locked(root, QUICK):
        begun = time.monotonic()
        with pytest.raises(UserError, match=rf"is being built by .* process {os.getpid()}"), locked(root, QUICK):
            pass
        assert time.monotonic() - begun < 10
    with locked(root, QUICK):  # both are gone
        pass
    assert not list((root / ".lock").glob("*"))


def test_the_claim_of_a_dead_build_runs_out(server: Server) -> None:
    root = server.root("dead-build")
    (root / ".lock" / "0123").write_bytes(b"elsewhere process 1")
    with locked(root, QUICK):
        assert [path.read_text() for path in (root / ".lock").glob("*")] != ["elsewhere process 1"]


def test_a_storage_that_goes_away_while_a_build_waits_for_its_claim_is_told_in_a_sentence(server: Server) -> None:
    (server.root("gone") / ".lock" / "0123").write_bytes(b"elsewhere process 1")
    with relay(server.port) as between:
        root = location(f"s3://gone/sets/toy?endpoint_override=127.0.0.1:{between.port}&scheme=http")
        trouble = threading.Timer(1.0, setattr, [between, "mode", BUSY])
        trouble.start()
        with pytest.raises(UserError, match="cannot be written to: .*503"), locked(root, LEASE):
            raise AssertionError("the other claim stands")


def attempt(root: ObjectPath, folder: Path, together: threading.Barrier) -> str:
    together.wait()
    with suppress(UserError), locked(root, QUICK):
        (folder / "alone").touch(exist_ok=False)
        time.sleep(0.5)
        (folder / "alone").unlink()
        return "went on"
    return "refused"


def test_two_builds_that_start_at_once_never_both_go_on(server: Server, tmp_path: Path) -> None:
    root, spawn = server.root("at-once"), multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(4, spawn) as pool:
        together = manager.Barrier(4)
        asked = [pool.submit(attempt, root, tmp_path, together) for _ in range(4)]
        assert {answer.result() for answer in asked} <= {"went on", "refused"}


def test_a_build_whose_claim_was_taken_away_is_stopped_with_a_sentence(server: Server) -> None:
    root = server.root("taken-away")
    with pytest.raises(UserError, match="this build lost its lock"), locked(root, QUICK):
        root.remove_tree()
        time.sleep(30)


def test_a_server_that_takes_a_request_and_never_answers_does_not_hold_a_build_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without limits of ours Arrow waits until TCP gives up, a quarter of an hour: longer than a claim lives."""
    real_s, asked = storage.SILENCE_S, 3  # times by Arrow, with pauses of its own
    monkeypatch.setattr(storage, "SILENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        root = location(f"s3://bucket/set?endpoint_override=127.0.0.1:{mute.getsockname()[1]}&scheme=http")
        begun = time.monotonic()
        with pytest.raises(OSError, match="Timeout"):
            root.is_file()
    assert asked * real_s + time.monotonic() - begun < LEASE.lost_s / 2


def test_nobody_writes_under_a_claim_that_was_taken_away(server: Server) -> None:
    """On other hosts the address arrives pickled, and no signal does."""
    root = server.root("zombie")
    claim = root / ".lock" / "0123"
    claim.write_bytes(b"elsewhere process 1")
    there = pickle.loads(pickle.dumps(replace(root, claim=Claim(claim.key, 24.0))))
    (there / "columns" / "a").write_bytes(b"while it stands")
    claim.unlink()
    time.sleep(24 / 12)  # for so long a look at the claim is good
    for write in (lambda: (there / "columns" / "b").write_bytes(b""), (there / "columns" / "a").unlink):
        with pytest.raises(UserError, match="this build lost its lock"):
            write()
    assert [path.name for path in root.glob("**")] == ["a"]


def test_two_processes_at_one_part_keep_their_notes_apart(server: Server) -> None:
    """A host that was cut off may come back while another has its part: an object put anew loses what both append."""
    root = server.root("two-journals")
    stores = [Store(root, journal=True) for _ in range(2)]
    kept: dict[ObjectPath, bytes] = {}
    for number, store in enumerate(stores):
        with store.new_file(root / "columns" / f"stage-{number}" / "part-00000.parquet") as temporary:
            temporary.write_bytes(bytes([number]))
        journals = {path: path.read_bytes() for path in (root / "ledger" / "written").glob("*")}
        assert len(journals) == number + 1 and kept.items() <= journals.items()
        kept = journals
    assert [name for name, _ in notes(root)] == [f"columns/stage-{number}/part-00000.parquet" for number in range(2)]


def test_a_write_that_the_storage_did_not_take_is_not_tried_again_once_another_has_the_part(server: Server) -> None:
    """A host that is cut off in the middle of it tries for two minutes: Ray gives its part away before."""
    direct = server.root("superseded")
    with relay(server.port) as between, locked(direct, LEASE) as ours:
        address = f"s3://superseded/sets/toy?endpoint_override=127.0.0.1:{between.port}&scheme=http"
        root = replace(location(address), claim=ours.claim)
        cut_off, other = Store(root, journal=True), Store(ours, journal=True)
        target = root / "columns" / "first" / "part-00000.parquet"
        with cut_off.taking("part-00000"), ThreadPoolExecutor(1) as thread:
            target.write_bytes(b"while it is ours")
            between.mode = BUSY
            written = thread.submit(target.write_bytes, b"with what we knew")
            time.sleep(3)
            with other.taking("part-00000"):
                (ours / "columns" / "first" / target.name).write_bytes(b"of another")
                between.mode = CALM
                with pytest.raises(Superseded, match="part-00000: another worker"):
                    written.result(60)
        target.write_bytes(b"no part is asked for after it")
    assert (direct / "columns" / "first" / target.name).read_bytes() == b"no part is asked for after it"


def test_nobody_writes_under_a_claim_that_has_grown_old_until_it_is_renewed(server: Server) -> None:
    root = server.root("old-claim")
    claim, lease = root / ".lock" / "0123", Claim("", 12.0)
    claim.write_bytes(b"elsewhere process 1")
    time.sleep(7)  # more than half of its time
    there = replace(root, claim=replace(lease, key=claim.key))
    renewal = threading.Timer(2.0, claim.write_bytes, [b"elsewhere process 1"])
    renewal.start()
    (there / "a").write_bytes(b"")
    assert (root / "a").modified_s() >= claim.modified_s()
    renewal.join()


# --- kills


@pytest.fixture
def chance() -> random.Random:
    """Another one every time; its seed is printed where the test fails."""
    print("seed", seed := random.randrange(10**6))
    return random.Random(seed)


def kill_and_check(server: Server, toy: ToyProject, name: str, chance: random.Random) -> int:
    """Kill the build of one data set up to `KILLS` times; whatever is visible is whole, and the end as if undisturbed.

    Returns the number of kills that hit a build at work.
    """
    calm, remote, kills = server.root(f"{name}-calm"), server.root(name), 0
    started = time.monotonic()
    toy.build(calm)
    seconds, address = time.monotonic() - started, f"s3://{remote.key}?{remote.options}"
    for _ in range(KILLS):
        status = killed(build_there, toy.folder, address, after_s=chance.uniform(0, 1.2 * seconds))
        for path in remote.glob("**"):
            if path.name.endswith(".parquet"):
                assert pq.read_metadata(io.BytesIO(path.read_bytes())).num_rows > 0
            elif path.name == "note.txt":
                assert len(path.read_text().split()) == 2
        if status == 0:
            break
        assert status == -signal.SIGKILL
        kills += 1
    toy.build(remote)
    assert contents(remote) == contents(calm)
    assert list(check_dataset(remote)) == []
    return kills


def test_a_killed_build_leaves_nothing_half_written_on_object_storage(server: Server, toy: ToyProject, chance) -> None:
    kill_and_check(server, toy, "kills", chance)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # forty builds and more, each in a process of its own
def test_thirty_kills_leave_nothing_half_written_on_object_storage(server: Server, toy: ToyProject, chance) -> None:
    kills = sets = 0
    while kills < 30:
        sets += 1
        kills += kill_and_check(server, toy, f"thirty-kills-{sets}", chance)
    print(f"{kills} kills of {sets} data sets")

"""A training that is killed, damaged or cut off from what it learns from ends with the weights of an undisturbed one,
or is refused with the reason: never with other weights."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

from pipeline.dataset.read import read_clips
from schemas.errors import UserError
from stages.train.checkpoint import read_note
from stages.train.loop import train
from stages.train.prediction import Predictor
from stages.train.run_folder import RunFolder, continue_run
from tests.labs.interrupted import Sittings, damaged, two_workers
from tests.labs.leftovers import end, end_all, processes_with
from tests.labs.ray_head import ROOT, until
from tests.labs.trainer import CPU, rows_of, small_set
from tests.labs.trainer import planned as planned_with

SEED = random.randrange(10**6)
TINY = {"width": 8, "hidden": 8, "layers": 2, "members": 2}
QUICK = {"vico_lstm": {"epochs": 4}, "pchg": {"epochs": 4, **TINY}}
STATES = ("checkpoint.safetensors", "last.safetensors")


@pytest.fixture(autouse=True)
def seed() -> None:
    print("seed", SEED)


def as_undisturbed(found: RunFolder, calm: RunFolder) -> None:
    """Both checkpoints hold the undisturbed weights to the bit, and the curves are the same."""
    for name in STATES:
        expected, weights = load_file(calm.root / name), load_file(found.root / name)
        assert expected.keys() == weights.keys()
        assert all(torch.equal(expected[key], weights[key]) for key in expected), name
    assert rows_of(found) == rows_of(calm)
    left = {path.name for path in found.root.iterdir()} - {".lock"}
    assert left == {path.name for path in calm.root.iterdir()} - {".lock"}


def planned(root: Path, out: Path, listener: str = "pchg", **settings: Any) -> RunFolder:
    return planned_with(root, out, listener, **{**(TINY if listener == "pchg" else {}), **settings})


def trained(root: Path, out: Path, listener: str = "pchg", **settings: Any) -> RunFolder:
    folder = planned(root, out, listener, **settings)
    train(folder, CPU)
    return folder


def words_of(root: Path, listener: str) -> list[str]:
    settings = {"batch_size": 8, **QUICK[listener]}
    chosen = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [str(root), "--listener", listener, *chosen, "--num-workers", "0"]


def sittings(root: Path, out: Path, listener: str = "vico_lstm") -> Sittings:
    return Sittings("train", words_of(root, listener), out)


def test_a_training_that_dies_before_it_renames_a_file_ends_as_if_undisturbed(root: Path, tmp_path: Path) -> None:
    calm = trained(root, tmp_path / "calm", "pchg", **QUICK["pchg"])
    shutil.rmtree(calm.frames)
    chance, kills, lives = random.Random(SEED), 0, 0
    while kills < 4:
        lives += 1
        assert lives < 10
        run = sittings(root, tmp_path / f"run-{lives}", "pchg")
        while not run.sit(renames=chance.randint(3, 12)):  # the frames, run.json, then up to three an epoch
            assert run.kills < 20
        kills += run.kills
        as_undisturbed(RunFolder(tmp_path / f"run-{lives}"), calm)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("listener", QUICK)
def test_25_kills_at_random_moments_change_no_weight(listener: str, root: Path, tmp_path: Path) -> None:
    calm = trained(root, tmp_path / "calm", listener, **QUICK[listener])
    shutil.rmtree(calm.frames)
    chance, kills, lives = random.Random(SEED), 0, 0
    span_s = sittings(root, tmp_path / "measured", listener).measured_s()
    while kills < 25:
        lives += 1
        run = sittings(root, tmp_path / f"run-{lives}", listener)
        while run.kills < 8 and not run.sit(within_s=chance.uniform(0, 0.7 * span_s)):
            pass
        assert run.sit()  # to its end, or once more after it
        kills += run.kills
        as_undisturbed(RunFolder(tmp_path / f"run-{lives}"), calm)
    print(f"{kills} kills in {lives} lives of {span_s:.1f} s")


@pytest.fixture(scope="module")
def stopped(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was stopped after three of four epochs, of which the second is the best."""

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            raise InterruptedError

    for seed in range(20):  # steps so large lead up and down
        folder = planned(root, tmp_path_factory.mktemp("stopped") / "run", epochs=4, learning_rate=0.1, seed=seed)
        with pytest.raises(InterruptedError):
            train(folder, CPU, stop)
        if min(rows_of(folder), key=lambda row: row["validation"])["epoch"] == 2:
            shutil.rmtree(folder.frames)
            return folder
    raise AssertionError("no run whose second epoch is the best")


@pytest.fixture
def run(stopped: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it, to be damaged."""
    return RunFolder(Path(shutil.copytree(stopped.root, tmp_path / "run")))


@pytest.mark.parametrize("name", [*STATES, "run.json"])
def test_of_60_random_damages_each_is_refused_and_none_predicts(
    name: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, content = random.Random(SEED), (run.root / name).read_bytes()
    for _ in range(60):
        (run.root / name).write_bytes(damaged(content, chance))
        with pytest.raises(UserError, match=rf"{name}: .*python -m jobs\.train|run.json: not UTF-8"):
            Predictor(run, CPU.device, "last" if name.startswith("last") else "best")


def go_on(root: Path, run: RunFolder) -> None:
    """To the end of a run that was stopped."""
    continue_run([root], "pchg", {}, run)
    train(run, CPU)


def test_where_the_last_state_is_damaged_or_lost_the_one_before_gives_the_same_weights(
    root: Path, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, seed = random.Random(SEED), run.read().settings["seed"]
    calm = trained(root, tmp_path / "calm", epochs=4, learning_rate=0.1, seed=seed)
    kept = run.last.read_bytes()
    for content in (damaged(kept, chance), b"", None):
        again = RunFolder(Path(shutil.copytree(run.root, tmp_path / f"again-{content is None}-{content == b''}")))
        again.last.unlink() if content is None else again.last.write_bytes(content)
        go_on(root, again)
        as_undisturbed(again, calm)
        assert content is None or "goes on from previous.safetensors" in capsys.readouterr().out
    run.last.write_bytes(b"")
    run.previous.write_bytes(damaged(run.previous.read_bytes(), chance))
    with pytest.raises(UserError, match="previous.safetensors: no checkpoint of a listener"):
        go_on(root, run)


def test_where_the_best_weights_are_damaged_or_of_an_earlier_epoch_a_run_is_not_gone_on_with(
    root: Path, run: RunFolder, tmp_path: Path
) -> None:
    seed = run.read().settings["seed"]
    early = trained(root, tmp_path / "early", epochs=1, learning_rate=0.1, seed=seed).checkpoint
    for content in (damaged(run.checkpoint.read_bytes(), random.Random(SEED)), early.read_bytes()):
        run.checkpoint.write_bytes(content)
        with pytest.raises(UserError, match="checkpoint.safetensors: .*jobs.predict RUN DATASET --checkpoint last"):
            go_on(root, run)
    Predictor(run, CPU.device, "last")


def test_the_best_weights_are_written_again_where_the_last_epoch_has_them(root: Path, tmp_path: Path) -> None:
    folder = trained(root, tmp_path / "run", epochs=2, held_out="none")
    kept = load(folder.checkpoint.read_bytes())  # no map of the file
    folder.checkpoint.write_bytes(b"")
    continue_run([root], "pchg", {}, folder)
    train(folder, CPU)
    assert all(torch.equal(weight, kept[name]) for name, weight in load_file(folder.checkpoint).items())
    Predictor(folder, CPU.device)


def test_a_checkpoint_of_another_seed_is_not_taken_for_this_runs(root: Path, run: RunFolder, tmp_path: Path) -> None:
    seed = run.read().settings["seed"] + 1
    other = trained(root, tmp_path / "other", epochs=1, learning_rate=0.1, seed=seed)
    for name in STATES:
        (run.root / name).write_bytes((other.root / name).read_bytes())
        with pytest.raises(UserError, match=rf"{name}: another run's: .*{'jobs.train'}"):
            Predictor(run, CPU.device, "last" if name.startswith("last") else "best")
    for path in (run.last, run.previous):
        shutil.copy(other.last, path)
    with pytest.raises(UserError, match="another run's"):
        go_on(root, run)


# --- what it learns from


def after_the_first(act: Callable[[], object]) -> Callable[[dict[str, float]], None]:
    """Do something when one epoch is done."""

    def on_epoch(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            act()

    return on_epoch


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """A data set of one's own, to be damaged."""
    return Path(shutil.copytree(root, tmp_path / "own"))


def test_a_shard_that_is_damaged_while_it_trains_is_refused_when_the_run_goes_on_or_is_not_in_what_it_reads(
    own: Path, tmp_path: Path
) -> None:
    shard = next((own / "shards").glob("train-*"))
    kept, chance, refused = shard.read_bytes(), random.Random(SEED), 0
    folder = planned(own, tmp_path / "run", epochs=2)
    frames = (folder.frames / "checksums.json").read_bytes()
    train(folder, CPU, after_the_first(lambda: shard.write_bytes(b"")))  # which it has no need of any more
    for _ in range(10):
        shard.write_bytes(damaged(kept, chance))
        try:
            continue_run([own], "pchg", {}, folder)
        except UserError as error:
            assert f"{shard.name}: " in str(error) and "jobs.repair" in str(error)
            refused += 1
        else:
            assert (folder.frames / "checksums.json").read_bytes() == frames
    assert refused
    shard.write_bytes(kept)
    continue_run([own], "pchg", {"epochs": 3}, folder)


def test_a_shard_of_another_data_set_is_not_learned_from(own: Path, tmp_path: Path) -> None:
    folder = trained(own, tmp_path / "run", epochs=1)
    other = small_set(tmp_path / "other", seed=1)
    shutil.copytree(other / "shards", own / "shards", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"train-.*parquet: .*another"):
        continue_run([own], "pchg", {"epochs": 2}, folder)


def test_frames_that_are_damaged_while_it_trains_are_not_learned_from(root: Path, tmp_path: Path) -> None:
    chance, calm = random.Random(SEED), trained(root, tmp_path / "calm", epochs=3)
    folder = planned(root, tmp_path / "run", epochs=3)
    arrays = sorted(folder.frames.glob("*.npy"))

    def damage() -> None:
        path = chance.choice(arrays)
        with path.open("r+b") as file:
            file.seek(chance.randrange(200, path.stat().st_size))
            (byte,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))

    with pytest.raises(UserError, match=r"frames/\w+\.npy: (clip '\w+'|the padding) is not what was decoded.*--resume"):
        train(folder, CPU, after_the_first(damage))
    assert epochs_kept(folder) == 1
    with pytest.raises(UserError, match="is not what was decoded"):
        train(folder, CPU)  # as a worker that is started anew
    continue_run([root], "pchg", {}, folder)
    train(folder, CPU)
    as_undisturbed(folder, calm)


def epochs_kept(folder: RunFolder) -> int:
    """How many epochs the last state has behind it."""
    return len(read_note(folder.last, folder.read().identity)["rows"])


@pytest.mark.parametrize("key", ["clip_id", "listener_id"])
def test_what_is_withdrawn_while_it_trains_is_not_learned_from_any_more(key: str, own: Path, tmp_path: Path) -> None:
    row = next(read_clips(own, (), ("train",)))
    gone = sorted(other["clip_id"] for other in read_clips(own, (), ("train",)) if other[key] == row[key])
    folder = planned(own, tmp_path / "run", epochs=4)
    said = rf"clips {', '.join(gone)}: they were withdrawn since this run began .*jobs.train DATASET"
    with pytest.raises(UserError, match=said):
        train(folder, CPU, after_the_first(lambda: (own / "takedown.txt").write_text(f"{row[key]}\n")))
    assert epochs_kept(folder) == 1  # nothing was kept of what it learned after that
    for again in (lambda: train(folder, CPU), lambda: continue_run([own], "pchg", {}, folder)):
        with pytest.raises(UserError, match=said):
            again()
    assert set(planned(own, tmp_path / "new").read().clips).isdisjoint(gone)


def test_a_list_that_names_nobody_of_the_run_stops_nothing(own: Path, tmp_path: Path) -> None:
    calm = trained(own, tmp_path / "calm", epochs=2)
    folder = planned(own, tmp_path / "run", epochs=2)
    train(folder, CPU, after_the_first(lambda: (own / "takedown.txt").write_text("somebody_else\n")))
    as_undisturbed(folder, calm)


# --- two workers


LOST_S = 20.0


def test_of_two_workers_one_that_is_left_says_so_and_both_go_on_to_the_same_weights(root: Path, tmp_path: Path) -> None:
    calm, run = (planned(root, tmp_path / name, epochs=3) for name in ("calm", "run"))
    for folder, dies in ((calm, 0), (run, 1), (run, 0)):
        workers = two_workers(folder.root, dies, tmp_path / "meeting")
        started = time.monotonic()
        for worker in workers:
            worker.join(LOST_S)
        assert time.monotonic() - started < LOST_S
        assert [worker.exitcode for worker in workers] == ([0, -9] if dies else [0, 0])
        if dies:
            said = folder.root / "said.txt"
            assert said.read_text().startswith("worker 1 of 2: another one was lost")
            said.unlink()
            assert epochs_kept(folder) == 1
    as_undisturbed(run, calm)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_replaces_a_worker_that_is_lost_and_says_what_a_person_must_mend(
    root: Path, own: Path, tmp_path: Path
) -> None:
    """The weights of the last epoch that was kept are those of two workers that nobody disturbed."""
    run, mark = RunFolder(tmp_path / "run"), uuid.uuid4().hex
    words = [*words_of(own, "vico_lstm"), "--set", "epochs=2000", "--num-workers", "2", "--out", str(run.root)]
    with (tmp_path / "log").open("w") as log:
        alone = {"env": {**os.environ, "VICO_LAB": mark}, "cwd": ROOT, "start_new_session": True}
        driver = subprocess.Popen([sys.executable, "-m", "jobs.train", *words], stdout=log, stderr=log, **alone)
    try:
        until(run.last.is_file, "an epoch", within_s=120)
        end(next(pid for pid, command in processes_with(mark).items() if "RayTrainWorker" in command))
        before = epochs_kept(run)
        until(lambda: epochs_kept(run) > before + 2, "epochs after the loss", within_s=120)
        gone = next(read_clips(own, (), ("train",)))["clip_id"]
        (own / "takedown.txt").write_text(f"{gone}\n")
        assert driver.wait(120) == 2
    finally:
        end_all(mark)
    said = (tmp_path / "log").read_text().splitlines()[-1]
    assert said.startswith(f"error: clips {gone}: they were withdrawn since this run began")
    calm = planned(root, tmp_path / "calm", "vico_lstm", epochs=epochs_kept(run))  # its rate knows no end
    for worker in two_workers(calm.root, 0, tmp_path / "meeting"):
        worker.join(120)
    for name in STATES:
        expected, found = load_file(calm.root / name), load_file(run.root / name)
        assert all(torch.equal(weight, found[key]) for key, weight in expected.items())

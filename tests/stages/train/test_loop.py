"""The loop: it learns, it repeats itself, it goes on where it stopped, two workers do as one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.dataset.read import read_clips
from pipeline.weights import file_sha256
from schemas.errors import UserError
from stages.train.loop import ahead, train
from stages.train.prediction import Predictor
from stages.train.run_folder import continue_run
from tests.labs.trainer import CPU, changed, planned, rows_of, small_set, trained, weights_of

PROJECT = Path(__file__).resolve().parents[3]
ROUNDING = 1e-5  # relative: sums of float32 in another order
SEVERAL_LENGTHS = 5e-4


def test_the_loss_falls_and_the_run_folder_shows_it(root: Path, tmp_path: Path) -> None:
    folder = trained(root, tmp_path / "run", epochs=6, learning_rate=5e-3)
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"] and all(row["validation"] > 0 for row in rows)
    assert (folder.root / "curves.png").read_bytes().startswith(b"\x89PNG")
    (events,) = (folder.root / "tensorboard").iterdir()
    assert all(tag in events.read_bytes() for tag in (b"loss", b"validation", b"learning_rate"))
    assert "windows/s" in (folder.root / "log.txt").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(root: Path, tmp_path: Path) -> None:
    one, two, other = (weights_of(trained(root, tmp_path / str(i), seed=i // 2)) for i in range(3))
    assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))
    assert not torch.equal(one["model.out.weight"], other["model.out.weight"])


def test_a_training_that_was_stopped_ends_with_the_same_weights_bit_for_bit(root: Path, tmp_path: Path) -> None:
    whole = trained(root, tmp_path / "whole", epochs=4)
    stopped = planned(root, tmp_path / "stopped", epochs=4)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(stopped, CPU, stop)
    continue_run([root], "vico_lstm", {}, stopped)
    train(stopped, CPU)
    expected, found = weights_of(whole), weights_of(stopped)
    assert expected.keys() == found.keys() and "optimizer.out.weight.exp_avg" in found
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert rows_of(whole) == rows_of(stopped)


def test_a_finished_training_can_be_given_more_epochs_but_no_other_settings(root: Path, tmp_path: Path) -> None:
    longer = trained(root, tmp_path / "longer", epochs=3)
    folder = trained(root, tmp_path / "run", epochs=2)
    with pytest.raises(UserError, match="batch_size is 8 in this run"):
        continue_run([root], "vico_lstm", {"batch_size": 4}, folder)
    continue_run([root], "vico_lstm", {"epochs": 3}, folder)
    train(folder, CPU)
    assert torch.equal(weights_of(folder)["model.out.weight"], weights_of(longer)["model.out.weight"])


def test_changed_data_are_not_gone_on_with(root: Path, tmp_path: Path) -> None:
    folder = trained(root, tmp_path / "run", epochs=1)
    other = small_set(tmp_path / "set", seed=1)
    with pytest.raises(UserError, match="these data have changed"):
        continue_run([other], "vico_lstm", {}, folder)


def test_two_workers_learn_as_one_does_with_the_same_batches(root: Path, tmp_path: Path) -> None:
    """Windows of one length: but for rounding. Of several: a worker's mean over steps between frames, of which a window
    has one less than frames, weighs as its frames do."""
    settings = [{"dropout": 0.0, "epochs": 3, "window_frames": w, "stride_frames": 30} for w in (30, 60)]
    ones = [trained(root, tmp_path / f"one{i}", **some) for i, some in enumerate(settings)]
    twos = [planned(root, tmp_path / f"two{i}", **some) for i, some in enumerate(settings)]
    program = """
import os, sys, torch, torch.distributed as dist
from pathlib import Path
from stages.train.loop import Worker, train
from stages.train.run_folder import RunFolder
rank, *runs = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{runs[0]}/meeting", rank=int(rank), world_size=2)
for run in runs:
    train(RunFolder(Path(run)), Worker(torch.device("cpu"), int(rank), 2))
dist.destroy_process_group()
os._exit(0)  # gloo's threads may outlive their group, and abort an interpreter that ends in the usual way
"""
    command = [sys.executable, "-W", "error", "-c", program]
    runs = [str(two.root) for two in twos]
    workers = [subprocess.Popen([*command, str(rank), *runs], cwd=PROJECT) for rank in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    for one, two, tolerance in zip(ones, twos, (ROUNDING, SEVERAL_LENGTHS), strict=True):
        for expected, found in zip(rows_of(one), rows_of(two), strict=True):
            assert found == pytest.approx(expected, rel=tolerance)


def people_of(root: Path) -> dict[str, str]:
    return {row["clip_id"]: row["listener_id"] for row in read_clips(root, [], ("train",))}


def test_clips_are_held_out_by_default_and_no_listener_is_lost(root: Path, tmp_path: Path) -> None:
    people = people_of(root)
    run = planned(root, tmp_path / "run", validation_share=0.4).read()
    assert len(run.held_out) == int(0.4 * len(people))
    assert {people[clip] for clip in people if clip not in run.held_out} == set(people.values())
    assert planned(root, tmp_path / "other", validation_share=0.4, seed=1).read().held_out == run.held_out


def test_listeners_can_be_held_out_and_z_scores_do_not_know_them(root: Path, tmp_path: Path) -> None:
    people = people_of(root)
    run = planned(root, tmp_path / "run", held_out="listeners", validation_share=0.5).read()
    away = {people[clip] for clip in run.held_out}
    assert away and {clip for clip in people if people[clip] in away} == set(run.held_out)
    for i, settings in enumerate(({"validation_share": 0.0}, {"held_out": "none"})):
        without = planned(root, tmp_path / str(i), **settings).read()
        assert not without.held_out and without.scores != run.scores


def test_where_nothing_validates_the_checkpoint_is_the_last_epoch(root: Path, tmp_path: Path) -> None:
    growing = {"learning_rate": 1e-3, "decay": 1000.0, "decay_epochs": 2}  # the third epoch has a rate of 1
    rows = rows_of(folder := trained(root, tmp_path / "run", held_out="none", epochs=3, **growing))
    assert "validation" not in rows[0] and rows[-1]["loss"] > rows[0]["loss"]
    kept, last = load_file(folder.checkpoint), weights_of(folder)
    assert all(torch.equal(weight, last[name]) for name, weight in kept.items())


def test_counted_steps_end_a_training_wherever_they_fall_in_an_epoch(root: Path, tmp_path: Path) -> None:
    """A training of 2.5 epochs: the third row is of half of the windows, and the rate falls over the steps."""
    whole = trained(root, tmp_path / "whole", "pchg", epochs=1, width=8, hidden=8)
    (step,) = {int(w) for name, w in weights_of(whole).items() if name.endswith(".step")}
    counted = trained(root, tmp_path / "run", "pchg", epochs=1, width=8, hidden=8, iterations=2 * step + step // 2)
    assert {int(w) for name, w in weights_of(counted).items() if name.endswith(".step")} == {2 * step + step // 2}
    rates = [row["learning_rate"] for row in rows_of(counted)]
    assert len(rates) == 3 and rates[0] > rates[1] > rates[2] and rates[2] < 0.1 * 5e-3


def test_the_best_epoch_predicts_or_the_last(root: Path, tmp_path: Path) -> None:
    folder = trained(root, tmp_path / "run", epochs=8, learning_rate=0.05)
    assert rows_of(folder)[-1]["validation"] > min(row["validation"] for row in rows_of(folder))
    best, last = (Predictor(folder, CPU.device, checkpoint) for checkpoint in ("best", "last"))
    assert torch.equal(last.model.out.weight, weights_of(folder)["model.out.weight"])
    assert not torch.equal(best.model.out.weight, last.model.out.weight)
    assert last.account()["sha256"] == file_sha256(folder.last) != best.account()["sha256"]


def test_without_progress_training_stops_early_and_the_checkpoint_is_the_best(root: Path, tmp_path: Path) -> None:
    folder = trained(root, tmp_path / "run", epochs=40, patience=3, learning_rate=0.05)
    losses = [row["validation"] for row in rows_of(folder)]
    assert len(losses) < 40 and losses.index(min(losses)) == len(losses) - 4


def test_unlabelled_clips_are_an_attitude_of_their_own(root: Path, tmp_path: Path) -> None:
    partly = changed(root, tmp_path / "set", "attitude", lambda label: None if label == "neutral" else label)
    run = planned(partly, tmp_path / "run").read()
    assert run.vocabulary == ("positive", "neutral", "negative", "unlabelled") and run.sizes.attitudes == 4


def test_half_precision_learns_too(root: Path, tmp_path: Path) -> None:
    folder = trained(root, tmp_path / "run", precision="bfloat16", epochs=3, learning_rate=5e-3)
    assert rows_of(folder)[-1]["loss"] < rows_of(folder)[0]["loss"]
    assert weights_of(folder)["model.out.weight"].dtype == torch.float32


def test_batches_gathered_ahead_come_in_order() -> None:
    assert list(ahead(iter(range(50)))) == list(range(50))

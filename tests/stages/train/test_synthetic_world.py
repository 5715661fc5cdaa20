"""In a world with a known rule, learned listeners find the rule, and those without weights do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.dataset.read import read_clips
from schemas.clip import ATTITUDES
from stages.train.prediction import Predictor
from stages.train.registry import find_listeners
from stages.train.run_folder import RunFolder
from tests.labs.listener_comparison import REDUCED, SPLITS, WORLD, Scores, compare, measure, say, table
from tests.labs.synthetic_world import EYELIDS, PITCH, SMILE, VOCABULARY, World

FEW = World({"train": 120, "val": 6, "test": 9, "ood": 9}, people=40)
FEW_EPOCHS = {"hsp": 4, "mfr": 24, "pchg": 7, "vico_lstm": 7}  # after which all but `elp` show what they have found
LEARNED = [name for name in REDUCED if find_listeners()[name].learned]
BASELINES = [name for name in REDUCED if name not in LEARNED]
STOCHASTIC = [name for name in LEARNED if find_listeners()[name].stochastic]
SLOW = [pytest.mark.slow, pytest.mark.timeout(1800)]
every_learned = pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW) for name in LEARNED])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's shards in ``data``; runs in ``runs``."""
    folder = tmp_path_factory.mktemp("world")
    WORLD.write(folder / "data")
    return folder


@pytest.fixture(scope="module")
def figures(root: Path) -> dict[str, Scores]:
    """All listeners trained, for less long than in docs/synthetic_world.md, and measured; minutes."""
    found, seconds = compare(
        WORLD, root / "data", root / "runs", settings={n: {"epochs": e} for n, e in FEW_EPOCHS.items()}
    )
    print(table(found, seconds))
    return found


def test_the_same_world_is_written_twice(tmp_path: Path) -> None:
    small = World(clips={"train": 2, "ood": 1})
    shards = [sorted((small.write(tmp_path / name) / "shards").iterdir()) for name in ("one", "two")]
    assert [path.read_bytes() for path in shards[0]] == [path.read_bytes() for path in shards[1]]
    rows = list(read_clips(tmp_path / "one", ["listener_exp", "frame_token"]))
    assert sorted(row["split"] for row in rows) == ["ood", "train", "train"]
    assert all(len(row["frame_token"]) == row["num_frames"] for row in rows)


def test_nobody_of_ood_is_seen_in_training() -> None:
    clips = list(WORLD.list_clips())
    people = {split: {p for c in clips if c.split == split for p in (c.speaker, c.listener)} for split in WORLD.clips}
    assert not people["ood"] & people["train"]
    assert {clip.listener for clip in clips if clip.split == "test"} <= set(range(WORLD.people))


def test_the_rule_holds_in_the_truth() -> None:
    """Nods in pauses, smiles by attitude, eyelids after long words; drawn again, it comes out otherwise."""
    smile: dict[str, list[float]] = {attitude: [] for attitude in ATTITUDES}
    pitch: dict[bool, list[float]] = {True: [], False: []}
    lids: dict[bool, list[float]] = {True: [], False: []}
    for clip in WORLD.list_clips():
        motion, rest = WORLD.listen(clip), WORLD.persons[clip.listener]
        smile[clip.attitude].append(float((motion.exp - rest.exp)[:, SMILE].mean()))
        pausing = np.zeros(len(motion.exp), bool)
        for start, end in clip.speech.pauses:
            pausing[start:end] = True
        for now in (True, False):
            pitch[now].append(float((motion.angle - rest.angle)[pausing == now, PITCH].mean()))
        for spoken, _, end in clip.speech.words:
            after = (motion.exp - rest.exp)[end + 3 : end + 14, EYELIDS]
            if len(after) == 11:
                lids[spoken >= VOCABULARY // 2].append(float(after.mean()))
    assert np.mean(smile["positive"]) > 0.4 and np.mean(smile["negative"]) < -0.2
    assert abs(np.mean(smile["neutral"])) < 0.02
    assert np.mean(pitch[True]) > np.mean(pitch[False]) + 0.02
    assert np.mean(lids[True]) < np.mean(lids[False]) - 0.2
    clip = next(iter(WORLD.list_clips()))
    assert not np.allclose(WORLD.listen(clip, 0).angle, WORLD.listen(clip, 1).angle)


def test_a_learned_listener_finds_the_smile_in_seconds(tmp_path: Path) -> None:
    """The quick look at what the slow tests see in full: pchg after a few epochs in a smaller world."""
    data = FEW.write(tmp_path / "data")
    mirror, _ = measure("mirror", FEW, data, tmp_path / "mirror", {})
    quick = {"epochs": 20, "window_frames": 60, "stride_frames": 60}
    pchg, _ = measure("pchg", FEW, data, tmp_path / "pchg", quick)
    assert all(pchg.sample[split] < mirror.sample[split] for split in SPLITS)
    assert pchg.smile["positive"] > pchg.smile["negative"] + 0.2


@every_learned
def test_a_learned_listener_beats_those_without_weights(name: str, figures: dict[str, Scores]) -> None:
    for split in SPLITS:
        for baseline in BASELINES:
            assert figures[name].sample[split] < figures[baseline].sample[split], (split, baseline)


@every_learned
def test_the_attitude_asked_for_changes_the_smile_as_the_rule_says(name: str, figures: dict[str, Scores]) -> None:
    smile = figures[name].smile
    assert smile["positive"] > smile["neutral"] > smile["negative"]


@every_learned
def test_samples_are_spread_as_the_truth_where_a_listener_samples(name: str, figures: dict[str, Scores]) -> None:
    """As near as docs/synthetic_world.md says: variances are half the truth's to twice that."""
    for part, ratio in figures[name].spread.items():
        assert 0.5 < ratio < 2 if name in STOCHASTIC else ratio == 0, part


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_windows_of_mfr_are_joined_without_seams(root: Path, figures: dict[str, Scores]) -> None:
    """Where a window begins or ends, motion bends no more than elsewhere: second differences of a trained model."""
    predictor = Predictor(RunFolder(root / "runs" / "mfr"), torch.device("cpu"))
    stride = predictor.model.settings.model_stride
    seams, others = [], []
    for said in say(predictor, WORLD, root / "data", samples=2):
        bends = np.abs(np.diff(said.motion, n=2, axis=1)).mean(axis=(0, 2))  # of frames 1, 2, ...
        frames = np.arange(1, len(bends) + 1)
        inner = (frames >= stride) & (frames < len(frames) - stride)
        at_seam = (frames % stride == 0) | (frames % stride == stride - 1)
        seams.append(bends[inner & at_seam])
        others.append(bends[inner & ~at_seam])
    assert np.concatenate(seams).mean() == pytest.approx(np.concatenate(others).mean(), rel=0.1)

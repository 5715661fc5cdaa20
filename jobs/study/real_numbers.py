"""All listeners on real clips: ``python -m jobs.study.real_numbers DATA --out OUT --minutes 0.4``, --docs at the end.

The clips of a built data set are dealt into four folds by person: who shows up together in a clip stays together, so
that nobody who is tested was trained on. Every listener is trained four times, without one fold each, for every seed,
and predicts the fold that it did not see. All trainings have the same budget of processor minutes, on one thread: a
first short training says how many epochs fit, and then the listener's own schedule runs over so many. What is finished
stays: stopped, the same command goes on. ``--docs docs/papers`` puts the figures into the pages.

OUT/data/            the data set whole (``all``, every clip of which is ``ood``) and without each fold (``fold-0`` ...)
OUT/runs/NAME/       epochs.json and a run a seed and fold
OUT/said/NAME/       predictions: seed-0-fold-0 ..., and all folds of a seed together in together/sample-00 ...
OUT/results.json     every score with its interval
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.command import command, option
from pipeline.clock import seconds_of
from pipeline.dataset.read import FILE, columns_of, read_clips, read_description, sample_name
from pipeline.dataset.write import write_dataset
from pipeline.tables import markdown_table
from schemas.clip import CLIP_COLUMNS
from schemas.dataset import PREDICTED, Predicted
from schemas.errors import UserError
from schemas.score import REFERENCE_RUN
from stages.evaluate.evaluation import Request as Asked
from stages.evaluate.evaluation import evaluate, in_this_process
from stages.evaluate.leaderboard.report import Report, make_report, number_text
from stages.evaluate.metrics.definition import Direction
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.runs import open_run
from stages.train.loop import Worker, train
from stages.train.prediction import Draw, Predictor, Request, write_predictions
from stages.train.registry import find_listener
from stages.train.run_folder import RunFolder, begin_run
from stages.train.whole_files import write_whole

FOLDS, SEEDS = 4, 3
UNLABELLED = "neutral"  # what clips without an attitude count as
TRIAL_SHARE = 0.15  # of the budget, for the training that says how many epochs fit
TRIAL_EPOCHS = 3
MANY = 10**6  # epochs, of a training that is stopped by the clock

# Widths with which a training of half a minute on one core has some hundred steps; the papers' have a dozen.
NARROW_ELP = {
    "batch_size": 16, "heads": 16, "codes": 8, "width": 48, "audio_width": 8, "audio_outputs": 32, "channels": 8,
}  # fmt: skip
NARROW: Mapping[str, Mapping[str, Any]] = {
    "hsp": {"batch_size": 16, "audio_width": 4, "width": 48, "hidden": 64},
    "elp": NARROW_ELP,
    "dls_random": NARROW_ELP,
    "mfr": {"sampling_steps": 50},
}
LISTENERS = ("vico_lstm", "pchg", "hsp", "elp", "mfr", "dls_random")
BASELINES = ("random", "simulation", "simulation_attitude", "mirror", "nn_motion", "nn_audio")
PUBLISHED = tuple(f"{name}:paper" for name in LISTENERS[:5])
STILL = "still"  # the first frame, held: what a listener must do better than

FEATURE_DISTANCES = ("fd_angle_eccv2022", "fd_exp_eccv2022", "fd_trans_eccv2022")
OF_ELP = ("fd_{}_elp_norm", "vd_{}_sum", "rpcc_{}_per_dimension", "wtlcc_{}_4s_peak", "sts_{}_per_clip")
ELP_MEASURES = tuple(name.format(part) for part in ("exp", "pose") for name in OF_ELP)
MEASURES: Mapping[str, tuple[str, ...]] = {  # page of docs/papers -> the measures of its paper that need no pictures
    "vico_lstm": FEATURE_DISTANCES,
    "pchg": ("expfd_l1_2022", "anglefd_l1_2022", "transfd_l1_2022"),
    "hsp": ("posel1_2023", "expl1_2023", "posefd_frechet_pooled", "expfd_frechet_pooled"),
    "elp": (*ELP_MEASURES, "sid_exp_k40", "sid_pose_k20", "blink_wtlcc_4s"),
    "mfr": (*FEATURE_DISTANCES, "diversity_fitted_angle"),
}
AIMS = {Direction.LOWER: "↓", Direction.HIGHER: "↑", Direction.REFERENCE: "→"}
BEGIN, END = "<!-- begin: python -m jobs.study.real_numbers -->", "<!-- end: real numbers -->"


class _OutOfTime(Exception):
    """Ends a trial."""


@dataclass(frozen=True)
class Study:
    """Where everything lies, and how long a training may take."""

    data: Path
    out: Path
    minutes: float

    @property
    def whole(self) -> Path:
        return self.out / "data" / "all"

    def fold(self, number: int) -> Path:
        return self.out / "data" / f"fold-{number}"

    def run(self, name: str, seed: int, fold: int) -> RunFolder:
        return RunFolder(self.out / "runs" / name / f"seed-{seed}-fold-{fold}")

    def said(self, name: str, seed: int, fold: int) -> Path:
        return self.out / "said" / name / f"seed-{seed}-fold-{fold}"

    def together(self, name: str) -> Path:
        return self.out / "said" / name / "together"


def deal(clips: Sequence[Mapping[str, Any]], count: int) -> dict[str, int]:
    """Clip id -> fold. People who are in a clip together, or are so through others, share a fold; the largest go first.

    Parameters
    ----------
    clips : rows with ``clip_id``, ``speaker_id``, ``listener_id`` and ``num_frames``.
    """
    group: dict[str, str] = {}  # person -> who stands for the group

    def head(person: str) -> str:
        while group.setdefault(person, person) != person:
            person = group[person]
        return person

    for clip in clips:
        first, second = sorted((head(clip["speaker_id"]), head(clip["listener_id"])))
        group[second] = first
    members: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for clip in clips:
        members[head(clip["speaker_id"])].append(clip)
    frames = {name: sum(clip["num_frames"] for clip in found) for name, found in members.items()}
    if len(members) < count:
        raise UserError(f"expected {count} groups of people who never meet, found {len(members)}; add clips of others")
    loads, dealt = [0] * count, {}
    for name in sorted(members, key=lambda one: (-frames[one], one)):
        fold = loads.index(min(loads))
        loads[fold] += frames[name]
        dealt |= {clip["clip_id"]: fold for clip in members[name]}
    return dealt


def write_folds(study: Study) -> None:
    """The data set whole, and once a fold with the fold's clips as ``ood`` and all others as ``train``."""
    packed = [name for name in read_description(study.data).packed if name not in {c.name for c in CLIP_COLUMNS}]
    columns = [column for column in columns_of(study.data, packed).values() if column.is_numeric]
    rows = list(read_clips(study.data, [column.name for column in columns]))
    folds = deal(rows, FOLDS)
    made = read_description(study.data)
    for number in (None, *range(FOLDS)):
        out = study.whole if number is None else study.fold(number)
        if (out / FILE).is_file():
            continue
        dealt = [
            {**row, "attitude": row["attitude"] or UNLABELLED, "split": _split(folds[row["clip_id"]], number)}
            for row in rows
        ]
        write_dataset(out, dealt, columns, name=made.name, kind=made.kind, stages=made.stages, identity=number)


def _split(fold: int, left_out: int | None) -> str:
    return "ood" if left_out is None or fold == left_out else "train"


@cache
def _cpu() -> torch.device:
    torch.set_num_threads(1)
    return torch.device("cpu")


def begin(study: Study, name: str, fold: int, folder: RunFolder, **settings: Any) -> None:
    """Decide on a run of ``listener`` or ``listener:preset`` on all clips but those of a fold."""
    listener, _, preset = name.partition(":")
    begin_run([study.fold(fold)], listener, preset, {**NARROW.get(listener, {}), **settings}, folder)


def learns(name: str) -> bool:
    return find_listener(name.partition(":")[0]).learned


def epochs_within(study: Study, name: str) -> int:
    """How many epochs of a listener fit into the budget, of a trial without the first fold; tried once."""
    noted = study.out / "runs" / name / "epochs.json"
    if noted.is_file():
        return int(json.loads(noted.read_text())["epochs"])
    folder = RunFolder(study.out / "runs" / name / "trial")
    shutil.rmtree(folder.root, ignore_errors=True)
    begin(study, name, 0, folder, epochs=MANY, iterations=0)
    took: list[float] = []
    started = time.process_time()

    def clock(_: Mapping[str, float]) -> None:
        took.append(time.process_time() - started)
        if len(took) >= TRIAL_EPOCHS and took[-1] > TRIAL_SHARE * 60 * study.minutes:
            raise _OutOfTime

    with contextlib.suppress(_OutOfTime):
        train(folder, Worker(_cpu()), clock)
    shutil.rmtree(folder.root)
    a_epoch = (took[-1] - took[0]) / (len(took) - 1)  # the first one also warms up
    epochs = max(1, round(60 * study.minutes / a_epoch))
    write_whole(noted, lambda path: path.write_text(json.dumps({"epochs": epochs, "seconds_an_epoch": a_epoch})))
    return epochs


def train_and_predict(study: Study, name: str, seed: int, fold: int) -> float:
    """One training and its predictions of the fold left out; returns the training's processor seconds."""
    folder, learned = study.run(name, seed, fold), learns(name)
    shutil.rmtree(folder.root, ignore_errors=True)  # a training that was stopped has a budget no more
    begin(study, name, fold, folder, epochs=epochs_within(study, name) if learned else 1, iterations=0, seed=seed)
    started = time.process_time()
    if learned:
        train(folder, Worker(_cpu()))
    seconds = time.process_time() - started
    shutil.rmtree(folder.frames, ignore_errors=True)
    request = Request(study.fold(fold), ("ood",), draw=Draw(seed=seed))
    write_predictions([Predictor(folder, _cpu())], request, study.said(name, seed, fold))
    return seconds


def finished(study: Study, name: str) -> int:
    """How many seeds have predicted every fold."""
    seeds = 0
    while all((study.said(name, seeds, fold) / FILE).is_file() for fold in range(FOLDS)):
        seeds += 1
    return seeds


def put_together(study: Study, name: str) -> Path:
    """The predictions of all folds, a sample a seed: nobody in them was seen by who predicted them."""
    for seed in range(finished(study, name)):
        folders = [study.said(name, seed, fold) for fold in range(FOLDS)]
        made = read_description(folders[0])
        columns = columns_of(folders[0], [n for n in made.packed if n not in {c.name for c in CLIP_COLUMNS}])
        rows = [row for folder in folders for row in read_clips(folder, list(columns))]
        write_dataset(
            study.together(name) / sample_name(seed), rows, list(columns.values()), name=made.name, kind=PREDICTED,
            stages=made.stages, identity=[name, seed], predicted=made.predicted,
        )  # fmt: skip
    return study.together(name)


def hold(study: Study) -> Path:
    """Predictions that hold the first frame of every clip: a run like the others."""
    columns = columns_of(study.whole, [f"listener_{part}" for part in ("exp", "angle", "trans")])
    rows = list(read_clips(study.whole, list(columns)))
    for row in rows:
        for name in columns:
            known = row[name][np.isfinite(row[name]).all(axis=1)]
            row[name] = np.broadcast_to(known[0], row[name].shape)
    made = read_description(study.whole)
    write_dataset(
        study.together(STILL), rows, list(columns.values()), name=STILL, kind=PREDICTED, stages=made.stages,
        predicted=Predicted(STILL),
    )  # fmt: skip
    return study.together(STILL)


def measure(study: Study, names: Sequence[str]) -> Report:
    """Scores of all listeners over all clips: means over the seeds, 95 % intervals from a bootstrap over clips."""
    folders = {name: put_together(study, name) for name in names} | {STILL: hold(study)}
    runs = tuple(open_run(name, folder, None) for name, folder in folders.items())
    wanted = dict.fromkeys(metric for metrics in MEASURES.values() for metric in metrics)
    metrics = tuple(find_definition(name) for name in wanted)
    asked = Asked(reference=study.whole, runs=runs, metrics=metrics, splits=("ood",))
    return make_report(evaluate(asked, in_this_process), in_this_process, 0)


def describe(study: Study, names: Sequence[str]) -> dict[str, Any]:
    """What was trained on, and for how long."""
    clips = list(read_clips(study.whole))
    folds = deal(clips, FOLDS)
    frames = sum(clip["num_frames"] for clip in clips)
    people = {clip[role] for clip in clips for role in ("speaker_id", "listener_id")}
    return {
        "clips": len(clips), "minutes": float(seconds_of(frames)) / 60, "people": len(people),
        "folds": FOLDS, "seeds": max(finished(study, name) for name in names),
        "listeners": len({clip["listener_id"] for clip in clips}), "budget_minutes": study.minutes,
        "fold_clips": [sum(fold == number for fold in folds.values()) for number in range(FOLDS)],
        "epochs": {name: epochs_within(study, name) for name in names if learns(name)},
        "settings": {name: dict(narrow) for name, narrow in NARROW.items()},
    }  # fmt: skip


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """Page -> its table of measured figures and what they were measured on, in Markdown."""
    found = {(score["run"], score["metric"]): score for score in results["scores"]}
    about, pages = results["about"], {}
    runs = [*results["runs"], STILL, REFERENCE_RUN]
    for page, measures in MEASURES.items():
        if page not in results["runs"]:
            continue
        shown = [m for m in measures if any((run, m) in found for run in results["runs"])]
        samples = {run: found[run, m]["num_samples"] for run in runs for m in shown if (run, m) in found}
        alone = {run for run, count in samples.items() if count == 1 < about["seeds"] and run in about["epochs"]}
        rows = [
            [_named(run, page) + ", one seed" * (run in alone), *(_cell(found.get((run, m))) for m in shown)]
            for run in runs
        ]
        header = ["listener", *(f"{find_definition(m).name} ({_aim(m)})" for m in shown)]
        pages[page] = f"{_said(about, page)}\n\n{markdown_table(header, rows)}"
    return pages


def _named(run: str, page: str) -> str:
    listener, _, preset = run.partition(":")
    named = f"`{listener}`" + (f", preset `{preset}`" if preset else "")
    return f"**{named}**" if listener == page else run if run in (STILL, REFERENCE_RUN) else named


def _aim(metric: str) -> str:
    return AIMS[find_definition(metric).direction]


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    if score["low"] is None or score["low"] == score["high"]:
        return number_text(score["value"])
    return f"{number_text(score['value'])} [{number_text(score['low'])}, {number_text(score['high'])}]"


def _said(about: Mapping[str, Any], page: str) -> str:
    narrow = about["settings"].get(page, {})
    sizes = "its default settings" if not narrow else ", ".join(f"`{key}={value}`" for key, value in narrow.items())
    published = about["epochs"].get(f"{page}:paper")
    epochs = f"{about['epochs'][page]} epochs" + (f" (with the preset `paper` {published})" if published else "")
    people = f"{about['listeners']} listeners of {about['people']} people"
    folds = f"{about['folds']} folds by person of {', '.join(map(str, about['fold_clips']))} clips"
    return (
        f"{about['clips']} clips ({about['minutes']:.1f} min, {people}), {folds}, {about['seeds']} seeds, "
        f"{about['budget_minutes']:g} processor minutes a training on one core. `{page}` got through "
        f"{epochs}, with {sizes}. Values are means over the seeds; brackets hold 95 % intervals "
        "of a bootstrap over clips."
    )


def write_docs(results: Mapping[str, Any], folder: Path) -> None:
    """Put the tables between the marks of the pages."""
    for page, text in tables(results).items():
        path = folder / f"{page}.md"
        before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise UserError(f"{path}: expected the marks {BEGIN} and {END}, found none; put them where the table goes")
        path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


@command(
    option("data", type=Path, help="a data set that jobs.build wrote, e.g. of manifests/vico_examples.toml"),
    option("--out", type=Path, required=True, help="where runs, predictions and figures go"),
    option("--minutes", type=float, default=0.4, help="processor minutes a training (default: 0.4)"),
    option("--seeds", type=int, default=SEEDS, help=f"trainings a fold, more are kept (default: {SEEDS})"),
    option("--listeners", nargs="+", default=[*LISTENERS, *BASELINES, *PUBLISHED], help="NAME or NAME:PRESET"),
    option("--docs", type=Path, help="write the figures of OUT into the pages of this folder, and train nothing"),
)
def main(options: argparse.Namespace) -> None:
    """Train all listeners on real clips by person, and measure them."""
    study, results = Study(options.data, options.out, options.minutes), options.out / "results.json"
    if options.docs:
        if not results.is_file():
            raise UserError(f"{results}: missing; run the study to its end first, without --docs")
        write_docs(json.loads(results.read_text()), options.docs)
        return
    if options.minutes <= 0 or options.seeds < 1:
        raise UserError("--minutes, --seeds: expected more than 0")
    for name in options.listeners:
        learns(name)  # an unknown one is said before anything is trained
    write_folds(study)
    for seed in range(options.seeds):  # seed by seed, so that a study that must end early has whole seeds
        for name in options.listeners:
            for fold in range(FOLDS):
                if not (study.said(name, seed, fold) / FILE).is_file():
                    seconds = train_and_predict(study, name, seed, fold)
                    print(f"{name}, seed {seed}, fold {fold}: {seconds:.1f} s", flush=True)
    report = measure(study, options.listeners)
    about, scores = describe(study, options.listeners), [score.to_json() for score in report.scores]
    plain = {"about": about, "runs": options.listeners, "scores": scores}
    write_whole(results, lambda path: path.write_text(json.dumps(plain, indent=1) + "\n", "utf-8"))
    print(f"{results}: python -m jobs.study.real_numbers {options.data} --out {options.out} --docs docs/papers")

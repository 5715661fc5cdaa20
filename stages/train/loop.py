"""The loop that trains every listener: AdamW, one checkpoint an epoch, validation, early stopping, exact resume.

torch alone: it runs in one process or, where `torch.distributed` is set up, in several, each with its share of every
batch. All draws of an epoch are seeded by (seed, epoch), so a training that goes on from ``last.safetensors`` ends with
the weights that it would have had without the stop: bit for bit on a CPU. Before a state is saved, the frames must
still be what was decoded and no clip withdrawn: what is learned from others is not kept.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from schemas.errors import UserError
from stages.train.checkpoint import load_training, read_note, save_training, save_weights
from stages.train.corpus import Corpus, TakedownWatch, open_corpus, require_clips
from stages.train.inputs import ANEW
from stages.train.listener import Batch
from stages.train.run_folder import SPLITS, Run, RunFolder, require_data
from stages.train.training_log import Curves, Log, Progress
from stages.train.whole_files import take_up
from stages.train.windows import Windows, draw_seed, epoch_batches, to_device, training_windows

Found = TypeVar("Found")


@dataclass(frozen=True)
class Worker:
    """One of the processes that train together."""

    device: torch.device
    rank: int = 0
    count: int = 1

    def total(self, *values: Tensor) -> Tensor:
        """The values' sums over all workers, float64."""
        summed = torch.stack([value.detach().double() for value in values])
        if self.count > 1:
            dist.all_reduce(summed)
        return summed

    def agree(self, work: Callable[[], Found]) -> Found:
        """What every worker does; where one of them raises `UserError` all do, for the others would wait for it."""
        if self.count == 1:
            return work()
        found, refusal = None, None
        try:
            found = work()
        except UserError as error:
            refusal = error
        (refused,) = self.total(torch.tensor(float(refusal is not None), device=self.device)).tolist()
        if refused:
            raise refusal or UserError(
                f"worker {self.rank + 1} of {self.count}: another one refuses to go on, see there"
            )
        return cast(Found, found)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """`WorkerLost` in place of what torch raises where another worker is no longer there."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not (type(error) is RuntimeError or isinstance(error, dist.DistError)):
                raise
            who = f"worker {self.rank + 1} of {self.count}: another one was lost, or what they share failed"
            said = str(error).partition("\n")[0]
            raise WorkerLost(f"{who}: {said}; go on from the last whole epoch: --resume") from error


class WorkerLost(UserError):
    """One of several workers is gone. Those that are left stop; a training that is started anew goes on."""


class Sums:
    """Sums over frames of the terms of a loss, and the number of these frames."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.terms: dict[str, Tensor] = {}
        self.frames = torch.zeros((), dtype=torch.float64, device=worker.device)

    def add(self, terms: dict[str, Tensor], count: Tensor) -> None:
        """Take in a batch's means over ``count`` frames."""
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + term.detach().double() * count
        self.frames += count

    def means(self) -> dict[str, float]:
        """Means over the frames of all workers: of the loss, and of each of its terms."""
        *totals, count = self.worker.total(*self.terms.values(), self.frames).tolist()
        means = {name: total / max(count, 1.0) for name, total in zip(self.terms, totals, strict=True)}
        return {"loss": sum(means.values()), **means}


@dataclass
class History:
    """What has been reached: a row of figures an epoch, the best loss, and how many epochs ago."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf  # of the validation losses
    since_best: int = 0

    def add(self, row: dict[str, float]) -> bool:
        """Take in an epoch; whether it is the best so far, which without validation the last one is."""
        self.rows.append(row)
        if "validation" not in row:
            return True
        self.since_best = 0 if row["validation"] < self.best else self.since_best + 1
        self.best = min(self.best, row["validation"])
        return self.since_best == 0


def train(folder: RunFolder, worker: Worker, on_epoch: Callable[[dict[str, float]], None] | None = None) -> None:
    """Train the run of a folder to its end, from the last whole epoch if there is one.

    Parameters
    ----------
    on_epoch : called by every worker with the figures of each epoch, after its checkpoint is written.
    """
    with worker.together():
        _train(folder, worker, on_epoch)


def _train(folder: RunFolder, worker: Worker, on_epoch: Callable[[dict[str, float]], None] | None) -> None:
    run = folder.read()
    settings = run.resolved()
    require_data(run, run.roots)
    takedown = TakedownWatch(run.roots, run.clips, ANEW)
    takedown.check()
    corpus = open_corpus(run.roots, run.inputs, SPLITS, folder.frames)
    require_clips(run.clips, corpus.clip_ids, ANEW)
    training, validation = _windows(run, corpus)

    def unchanged() -> None:
        corpus.verify()
        takedown.check()

    log = Log(folder.log if worker.rank == 0 else None)
    trainer = Trainer(run, worker, log)
    history = trainer.restore(folder)
    with Curves(folder, history.rows, log) if worker.rank == 0 else contextlib.nullcontext() as curves:
        for epoch in range(len(history.rows), math.ceil(trainer.epochs(training))):
            if settings.patience and history.since_best >= settings.patience:
                break
            row = trainer.epoch(training, epoch)
            if len(validation):
                row["validation"] = trainer.validate(validation)
            worker.agree(unchanged)
            best = history.add(row)
            if curves is not None:
                trainer.save(folder, history, best)
                curves.add(row)
            if on_epoch is not None:
                on_epoch(row)


def _windows(run: Run, corpus: Corpus) -> tuple[Windows, Windows]:
    """Windows to train on and, one after the other without overlap, to validate on."""
    settings = run.resolved()
    held_out = [clip for clip in corpus.clips if clip.clip_id in run.held_out and clip.attitude in run.vocabulary]
    others = [clip for clip in corpus.clips if clip.clip_id not in run.held_out]
    apart = replace(settings, stride_frames=settings.window_frames, windows="grid")
    training = training_windows(corpus, others, run.scores, run.vocabulary, settings)
    return training, training_windows(corpus, held_out, run.scores, run.vocabulary, apart)


class Trainer:
    """A listener with its optimizer, on one worker."""

    def __init__(self, run: Run, worker: Worker, log: Log) -> None:
        self.settings, self.worker, self.log, self.identity = run.resolved(), worker, log, run.identity
        torch.manual_seed(draw_seed("weights", self.settings.seed))
        self.model = run.build().to(worker.device)
        self.step_model: Any = self.model
        if worker.count > 1:
            # static_graph: a model may have weights that only `predict` uses
            self.step_model = DistributedDataParallel(self.model, static_graph=True)
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        self.optimizer = torch.optim.AdamW(self.model.parameters(), rate, weight_decay=decay)
        self.dtype = precise(self.settings.precision, worker.device)
        self.scaler = torch.amp.GradScaler(worker.device.type, enabled=self.dtype == torch.float16)

    def epochs(self, windows: Windows) -> float:
        """Passes over the windows until training ends; where steps are counted, the last is cut short."""
        steps = math.ceil(len(windows) / self.settings.batch_size)
        return self.settings.iterations / steps if self.settings.iterations and steps else self.settings.epochs

    def epoch(self, windows: Windows, epoch: int) -> dict[str, float]:
        """One pass over the training windows; returns mean losses over frames."""
        torch.manual_seed(draw_seed("dropout", self.settings.seed, epoch, self.worker.rank))
        generator = self._generator("training", epoch)
        self.model.train()
        picks = list(epoch_batches(len(windows), self.settings, epoch))
        steps, end = len(picks), self.epochs(windows)
        if self.settings.iterations:
            picks = picks[: self.settings.iterations - epoch * steps]
        windows, sums = windows.of_epoch(self.settings.seed, epoch), Sums(self.worker)
        with Progress(epoch, sum(map(len, picks)), self.log) as progress:
            for number, (batch, count) in enumerate(self._batches(windows, picks)):
                factor = self.model.learning_rate_factor(epoch + number / steps, end)
                rate = factor * self.settings.learning_rate
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                sums.add(self._step(batch, count, generator), count)
                progress.advance(len(picks[number]), sums.terms, sums.frames)
            self.model.end_epoch()
            row = {"epoch": epoch + 1, **sums.means()}
            return {**row, "learning_rate": rate, "windows_a_second": progress.rate()}

    def validate(self, windows: Windows) -> float:
        """The loss on held-out windows, with the same draws in every epoch."""
        generator = self._generator("validation", 0)
        self.model.eval()
        sums = Sums(self.worker)
        picks = list(epoch_batches(len(windows), self.settings, 0))
        with torch.no_grad():
            for batch, count in self._batches(windows, picks):
                with self._autocast():
                    terms = self.model(batch, generator)
                sums.add(terms, count)
        return sums.means()["loss"]

    def save(self, folder: RunFolder, history: History, best: bool) -> None:
        """Write the last state and, if it is the best, the checkpoint."""
        if best:
            save_weights(folder.checkpoint, self.model, history.rows[-1], self.identity)
        note = {**vars(history), "scaler": self.scaler.state_dict()}
        save_training(folder.last, self.model, self.optimizer, note, self.identity, folder.previous)

    def restore(self, folder: RunFolder) -> History:
        """Take up the last state, or where that is damaged the one before; none if there is none.

        `UserError` where both are damaged, or the weights of the best epoch are and cannot be saved again.
        """
        history = take_up([folder.last, folder.previous], self._restored, self.log.say)
        if history is None:
            return History()
        best = len(history.rows) - history.since_best
        try:
            found = read_note(folder.checkpoint, self.identity).get("epoch", 0)
            if found < best:  # a later one than the state's is of an epoch that will come again
                raise UserError(
                    f"{folder.checkpoint}: expected the weights of epoch {best}, found those of {found:.0f}"
                )
        except UserError as error:
            if best < len(history.rows):
                last = "the last epoch's still predict: python -m jobs.predict RUN DATASET --checkpoint last"
                raise UserError(f"{error}; {last}") from None
            if self.worker.rank == 0:
                save_weights(folder.checkpoint, self.model, history.rows[-1], self.identity)
        return history

    def _restored(self, path: Path) -> History:
        note = load_training(path, self.model, self.optimizer, self.identity)
        try:
            self.scaler.load_state_dict(note.pop("scaler"))
            return History(**note)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not the last state of a training: {error}; {ANEW}") from None

    def _step(self, batch: Batch, count: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the optimizer; a worker's part of the loss weighs as much as its part of the frames."""
        with self._autocast():
            terms: dict[str, Tensor] = self.step_model(batch, generator)
        (everywhere,) = self.worker.total(count)
        weight = (count * self.worker.count / everywhere.clamp(min=1)).float()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(torch.stack(list(terms.values())).sum() * weight).backward()
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return terms

    def _batches(self, windows: Windows, picks: list[Any]) -> Iterator[tuple[Batch, Tensor]]:
        """This worker's share of every batch, and its frames: 0 if it has none and only keeps step with the others."""

        def gathered() -> Iterator[tuple[Batch, Tensor]]:
            for number in picks:
                mine = number[self.worker.rank :: self.worker.count]
                batch = to_device(windows.batch(mine if len(mine) else number[:1]), self.worker.device)
                yield batch, batch.mask.sum() * int(len(mine) > 0)

        return ahead(gathered()) if self.worker.device.type == "cuda" else gathered()

    def _generator(self, purpose: str, epoch: int) -> torch.Generator:
        seed = draw_seed(purpose, self.settings.seed, epoch, self.worker.rank)
        return torch.Generator(self.worker.device).manual_seed(seed)

    def _autocast(self) -> Any:
        return torch.autocast(self.worker.device.type, self.dtype, enabled=self.dtype != torch.float32)


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, each made in a thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def precise(precision: str, device: torch.device) -> torch.dtype:
    """The type in which matrices are multiplied; weights stay float32."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, precision)

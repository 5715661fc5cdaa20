"""The loop that trains PIRenderer: Adam, an average of the weights, a checkpoint every so many steps, exact resume.

Ren et al., ICCV 2021, section 4.1, and the published program: mapping and warping are trained first, alone; every pair
is learnt both ways; what renders later is a running average of the weights. All draws of a step are seeded by (seed,
step): a training that goes on from its checkpoint ends with the weights that it would have had, bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from pipeline.plan import digest
from pipeline.settings import as_plain, resolve
from pipeline.stage import setting
from pipeline.weights import find_weights
from schemas.column import ROLES
from schemas.errors import UserError
from stages.evaluate.render.pirender import generator_weights
from stages.evaluate.render.pirender_net import SIDE_STEP_PX, Generator, Rendered, Widths
from stages.morphable.checkpoint import filled, read_checkpoint, write_checkpoint
from stages.train.corpus import TakedownWatch, require_clips
from stages.train.listener import PRECISIONS
from stages.train.loop import Worker, precise
from stages.train.run_folder import fingerprints
from stages.train.training_log import Log
from stages.train.whole_files import read_sealed, take_up, write_sealed, write_whole
from stages.train_renderer.losses import IDENTITIES, Identity, Perceptual, load_features, load_identity
from stages.train_renderer.pictures import Pairs, Pictures, open_pictures, sums_of

FORMAT_VERSION = 1
MAX_RUN_BYTES = 2**24
UNSEALED = ("format_version", "settings", "data", "start", "clips")  # all that run.json said before it carried a hash
BETAS = (0.5, 0.999)  # of Adam
INIT_STD = 0.02  # of fresh weights: the published program's
SAY_EVERY_S = 10.0
ANEW = "train anew into another folder: python -m jobs.train_renderer"
MAY_CHANGE = ("iterations", "save_every")  # when a training goes on


@dataclass(frozen=True)
class RendererSettings:
    """The defaults fine-tune the published checkpoint; the preset ``paper`` trains as it was trained."""

    iterations: int = setting(20_000, "steps of the optimizer")
    warp_only: int = setting(0, "of them, at the start, those that train mapping and warping alone")
    batch_size: int = setting(8, "pairs of frames a step, over all workers together; each is learnt both ways", least=1)
    learning_rate: float = setting(1e-4, "of Adam at the start")
    rate_step: int = setting(
        300_000, "steps after which the rate is multiplied by rate_factor, again and again", least=1
    )
    rate_factor: float = setting(0.2, "see rate_step")
    average: float = setting(0.5 ** (32 / 10_000), "share that the averaged weights keep in a step")
    features: str = setting("vgg19", "whose features are compared: an entry of weights.toml, a path/, or pixels")
    scales: int = setting(4, "sizes at which features are compared, each half of the one before", least=1)
    warp_weight: float = setting(2.5, "of the features of the warped picture")
    final_weight: float = setting(4.0, "of the features of the final picture")
    style_weight: float = setting(250.0, "of the final picture's Gram matrices, times final_weight")
    identity: str = setting("none", "network of MFR-Net's identity loss", choices=("none", *IDENTITIES))
    identity_file: str = setting("", "its weights, where they are not in their place; see python -m jobs.weights")
    identity_weight: float = setting(1.0, "of that loss; MFR-Net does not say")
    side_px: int = setting(256, f"side of the pictures, a multiple of {SIDE_STEP_PX}", least=1)
    descriptor: int = setting(256, "numbers that steer warping and editing", least=1)
    warp_width: int = setting(32, "channels of the warping network's first layer", least=1)
    edit_width: int = setting(64, "channels of the editing network's first layer", least=1)
    most_width: int = setting(256, "channels of any layer", least=1)
    padding: str = setting("zeros", "what lies beyond a picture that is warped", choices=("zeros", "border"))
    roles: str = setting("both", "whose faces are learnt from", choices=("both", *ROLES))
    precision: str = setting("auto", "auto: bfloat16 on a GPU that has it, else float32", choices=PRECISIONS)
    save_every: int = setting(1000, "steps between checkpoints", least=1)
    seed: int = setting(0, "of fresh weights and of the pairs")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"iterations": 400_000, "warp_only": 200_000},
    "small": {
        "features": "pixels", "style_weight": 0.0, "side_px": 64, "descriptor": 64, "warp_width": 16,
        "edit_width": 16, "most_width": 64, "learning_rate": 5e-4, "average": 0.99, "batch_size": 4,
        "iterations": 2000, "warp_only": 400, "save_every": 200, "padding": "border",
    },
}  # fmt: skip


@dataclass(frozen=True)
class RendererRun:
    """What ``run.json`` says.

    Attributes
    ----------
    data : folder of each data set -> fingerprints of its shards.
    start : the weights that training began with, an entry of weights.toml or a file; empty for fresh ones.
    clips : ids of the clips that were asked for; empty for all.
    learned : ids of those that are learnt from; none where the run is of before they were kept.
    """

    settings: Mapping[str, Any]
    data: Mapping[str, Sequence[str]]
    start: str = ""
    clips: Sequence[str] = ()
    learned: Sequence[str] = ()

    @property
    def identity(self) -> str:
        """A hash of all that stays as it is when the run goes on, which its checkpoints carry."""
        kept = {key: value for key, value in self.settings.items() if key not in MAY_CHANGE}
        return digest(asdict(replace(self, settings=kept)))

    @property
    def roots(self) -> list[Path]:
        return [Path(root) for root in self.data]

    def resolved(self) -> RendererSettings:
        found = resolve("renderer", RendererSettings, self.settings)
        if found.side_px % SIDE_STEP_PX or found.side_px < 2 * SIDE_STEP_PX:  # what is normalised has several pixels
            raise UserError(f"side_px: expected a multiple of {SIDE_STEP_PX} from twice that on, found {found.side_px}")
        return found

    def build(self) -> Generator:
        """The generator that training begins with."""
        settings = self.resolved()
        torch.manual_seed(settings.seed)
        widths = Widths(settings.descriptor, settings.warp_width, settings.edit_width, settings.most_width)
        network = Generator("zeros" if settings.padding == "zeros" else "border", widths)
        if not self.start:
            return network.apply(_fresh)
        path = find_weights(self.start).paths()[0]
        return filled(network, generator_weights(path), path)


class RendererFolder:
    """Names of a run's files, and ``run.json``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.description = root / "run.json"
        self.checkpoint, self.previous = root / "checkpoint.pt", root / "previous.pt"
        self.log, self.losses, self.pictures = root / "log.txt", root / "losses.csv", root / "pictures.npy"

    def read(self) -> RendererRun:
        """`UserError` where there is no run, or its description is damaged."""
        try:
            plain = read_sealed(self.description, MAX_RUN_BYTES, UNSEALED)
            if plain.pop("format_version") != FORMAT_VERSION:
                raise ValueError("of another version")
            return RendererRun(**plain)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.description}: describes no run: {type(error).__name__}: {error}; {ANEW}") from None

    def write(self, run: RendererRun) -> None:
        write_sealed(self.description, {"format_version": FORMAT_VERSION, **asdict(run)})

    def drop_pictures(self) -> None:
        for path in (self.pictures, sums_of(self.pictures)):
            path.unlink(missing_ok=True)


def begin(
    roots: Sequence[Path],
    folder: RendererFolder,
    overrides: Mapping[str, Any],
    preset: str = "",
    start: str = "",
    clips: Sequence[str] = (),
) -> None:
    """Decide on a run and write it; its pictures are decoded on the way. `UserError` says what does not fit."""
    if preset and preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}; python -m jobs.train_renderer --help")
    settings = resolve("renderer", RendererSettings, {**PRESETS.get(preset, {}), **overrides})
    run = RendererRun(as_plain(settings), {str(root): fingerprints(root) for root in roots}, start, tuple(clips))
    run.build()
    load_features(settings.features)  # what is missing is said before an hour of decoding
    load_identity(settings.identity, settings.identity_file)
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.drop_pictures()
    folder.write(replace(run, learned=_open(run, folder).clip_ids))


def go_on(overrides: Mapping[str, Any], folder: RendererFolder) -> None:
    """Let the run of a folder go on; `UserError` where its data, clips or what is not in `MAY_CHANGE` has changed."""
    run = folder.read()
    if not run.learned:
        found = "it is of before runs and checkpoints carried hashes: its checkpoint draws, but is not gone on with"
        raise UserError(f"{folder.root}: {found}; {ANEW}")
    for key, value in overrides.items():
        if key not in MAY_CHANGE and run.settings.get(key) != value:
            raise UserError(f"{folder.root}: {key} is {run.settings.get(key)!r} in this run and stays so; {ANEW}")
    run = replace(run, settings={**run.settings, **overrides})
    run.resolved()
    folder.drop_pictures()  # they may be of other clips, or damaged
    _open(run, folder)
    folder.write(run)


def _open(run: RendererRun, folder: RendererFolder) -> Pictures:
    """The pictures of a run; `UserError` where its data or clips have changed since it began."""
    settings = run.resolved()
    if changed := [root for root, shards in run.data.items() if list(fingerprints(Path(root))) != list(shards)]:
        raise UserError(f"{folder.root}: the run learns from {', '.join(changed)}, which changed since; {ANEW}")
    TakedownWatch(run.roots, run.learned, ANEW).check()  # before an hour of decoding
    roles = ROLES if settings.roles == "both" else (settings.roles,)
    pictures = open_pictures(run.roots, roles, settings.side_px, folder.pictures, run.clips)
    if run.learned:
        require_clips(run.learned, pictures.clip_ids, ANEW)
    return pictures


def train_renderer(folder: RendererFolder, worker: Worker, identity: Identity | None = None) -> None:
    """Train the run of a folder to its end, from its checkpoint if there is one.

    ``identity`` takes the place of the network that the settings name.
    """
    with worker.together():
        _train(folder, worker, identity)


def _train(folder: RendererFolder, worker: Worker, identity: Identity | None) -> None:
    run = folder.read()
    settings, pictures = run.resolved(), _open(run, folder)
    takedown = TakedownWatch(run.roots, run.learned, ANEW)
    log = Log(folder.log if worker.rank == 0 else None)
    trainer = RendererTrainer(run, worker, identity or load_identity(settings.identity, settings.identity_file))
    take_up([folder.checkpoint, folder.previous], trainer.restore, log.say)
    said = time.monotonic()
    while trainer.step < settings.iterations:
        terms = trainer.learn(pictures)
        last = trainer.step == settings.iterations
        if last or trainer.step % settings.save_every == 0:
            worker.agree(takedown.check)  # what is learnt from withdrawn clips is not kept
            if worker.rank == 0:
                write_whole(folder.checkpoint, trainer.save, folder.previous)
        if last or trainer.step == 1 or time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            found = ", ".join(f"{name} {float(term):.4f}" for name, term in terms.items())
            log.say(f"step {trainer.step} of {settings.iterations}: {found}")


class RendererTrainer:
    """A generator with its average and its optimizer, on one worker."""

    def __init__(self, run: RendererRun, worker: Worker, identity: Identity | None) -> None:
        self.settings, self.worker, self.step, self.run = run.resolved(), worker, 0, run.identity
        self.network = run.build().to(worker.device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), self.settings.learning_rate, BETAS)
        self.dtype = precise(self.settings.precision, worker.device)
        self.scaler = torch.amp.GradScaler(worker.device.type, enabled=self.dtype == torch.float16)
        self.perceptual = Perceptual(load_features(self.settings.features), self.settings.scales).to(worker.device)
        self.identity = identity.to(worker.device) if identity else None
        self._parallel: tuple[bool, Any] = (False, None)

    def learn(self, pictures: Pictures) -> dict[str, Tensor]:
        """One step; returns the losses' terms, and under ``l1`` the mean distance of final pictures in [-1, 1]."""
        settings = self.settings
        warp_only = self.step < settings.warp_only
        seed, mine = (settings.seed, self.step), slice(self.worker.rank, None, self.worker.count)
        pairs = self.worker.agree(lambda: pictures.draw(seed, settings.batch_size, mine)).to(self.worker.device)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.rate_factor ** (self.step // settings.rate_step)
        with torch.autocast(self.worker.device.type, self.dtype, enabled=self.dtype != torch.float32):
            terms, l1 = self.terms(pairs, warp_only)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1 - settings.average)
        self.step += 1
        return {name: term.detach() for name, term in {**terms, "l1": l1}.items()}

    def terms(self, pairs: Pairs, warp_only: bool) -> tuple[dict[str, Tensor], Tensor]:
        """The weighted terms of the loss for pairs, each learnt both ways, and the final pictures' L1."""
        settings = self.settings
        wanted = torch.cat([pairs.target, pairs.source])
        windows = torch.cat([pairs.target_window, pairs.source_window])
        found: Rendered = self._model(warp_only)(torch.cat([pairs.source, pairs.target]), windows, warp_only)
        terms = {"warp": settings.warp_weight * self.perceptual(found.warped, wanted, style=False)[0]}
        if not warp_only:
            content, style = self.perceptual(found.picture, wanted, style=settings.style_weight > 0)
            terms |= {"final": settings.final_weight * content}
            terms |= {"style": settings.final_weight * settings.style_weight * style}
            if self.identity is not None:
                terms["identity"] = settings.identity_weight * self.identity(found.picture, wanted)
        return terms, functional.l1_loss(found.picture.detach().float(), wanted)

    def _model(self, warp_only: bool) -> nn.Module:
        """The network, wrapped where several workers train: anew where other weights take part from now on."""
        if self.worker.count == 1:
            return self.network
        if self._parallel[1] is None or self._parallel[0] != warp_only:
            # static_graph: a fine residual block has weights that nothing uses
            self._parallel = (warp_only, DistributedDataParallel(self.network, static_graph=True))
        return self._parallel[1]

    def save(self, path: Path) -> None:
        """Write a checkpoint under the published names, with what going on needs beside them."""
        write_checkpoint(
            {
                "net_G": self.network.state_dict(), "net_G_ema": self.average.state_dict(),
                "opt_G": self.optimizer.state_dict(), "sch_G": {}, "current_epoch": 0,
                "current_iteration": self.step, "side_px": self.settings.side_px, "scaler": self.scaler.state_dict(),
                "run": self.run,
            },
            path,
        )  # fmt: skip

    def restore(self, path: Path) -> None:
        """Take up what `save` wrote; `UserError` where it is no such file, damaged, or another run's."""
        stored = read_checkpoint(path)
        if stored.get("run") != self.run:
            raise UserError(f"{path}: another run's: its settings or data are not those of run.json beside it; {ANEW}")
        try:
            filled(self.network, stored["net_G"], path)
            filled(self.average, stored["net_G_ema"], path)
            self.optimizer.load_state_dict(stored["opt_G"])
            self.scaler.load_state_dict(stored["scaler"])
            self.step = int(stored["current_iteration"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not the state of a training: {error}; {ANEW}") from None


def _fresh(module: nn.Module) -> None:
    """Small random weights, as the published program begins with."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

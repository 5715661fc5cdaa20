"""Make the demo's input, films and manifest and the truth about every frame: ``python -m jobs.make_demo --out DIR``.

Nothing is downloaded: the face is NASA's photograph in the scikit-image wheel, the voice is synthetic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from jobs.command import command, option
from jobs.demo.conversation import SCENES, Scene, Turn
from jobs.demo.film import Actor, write_film, write_speaker
from jobs.demo.truth import scene_truth
from pipeline.manifest.clips_csv import CSV_COLUMNS
from pipeline.manifest.write import manifest_text, write_csv
from schemas.clip import SIDES

MANIFEST = "demo.toml"
SPEAKER, PORTRAIT, ANSWERS = "speaker.mp4", "portrait.png", "dora"
FILMS = "films.toml"  # for jobs.mine: the films alone, and one that shows no pair
FILMS_DATASET = {
    "name": "mined",
    "stages": ["threedmm", "acoustic"],  # what a listener needs
}
LICENCE = "public domain (NASA photograph, scikit-image)"


def make_demo(out: Path) -> Path:
    """Write the demo's films, clips, truth and, last, manifest into a folder; the manifest's path is returned.

    Beside them a speaker alone and a portrait, for `jobs.respond`.
    """
    out.mkdir(parents=True, exist_ok=True)
    actors = {name: Actor(name) for scene in SCENES for name in scene.people}
    for scene in SCENES:
        write_film(scene, actors, out / scene.file)
    scene = SCENES[0]
    write_speaker(scene, scene.turns[-1], out / scene.file, out / SPEAKER)
    Image.fromarray(actors[ANSWERS].face.portrait.picture).save(out / PORTRAIT)
    heads = {name: actor.head for name, actor in actors.items()}
    truth = {"sources": [scene_truth(scene, heads) for scene in SCENES]}
    (out / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    write_csv(out / "clips.csv", CSV_COLUMNS, [_row(scene, turn) for scene in SCENES for turn in scene.turns])
    dataset = {"name": "demo", "clips": "clips.csv", "min_yield": 0.5}
    sources = [{"id": scene.source_id, "path": scene.file, "licence": LICENCE} for scene in SCENES]
    films = [*sources, {"id": "speaker", "path": SPEAKER, "licence": LICENCE}]
    (out / FILMS).write_text(manifest_text(FILMS_DATASET, films), encoding="utf-8")
    (out / MANIFEST).write_text(manifest_text(dataset, sources), encoding="utf-8")
    return out / MANIFEST


def _row(scene: Scene, turn: Turn) -> list[str | float]:
    """A clip as clips.csv has it."""
    people = {turn.role(side): scene.person(side) for side in SIDES}
    span = [float(turn.span.start_s), float(turn.span.end_s)]
    labels = [turn.speaker_side, turn.attitude, people["speaker"], people["listener"], turn.split]
    return [scene.source_id, *span, *labels]


@command(option("--out", type=Path, required=True, help="folder to write to"))
def main(options: argparse.Namespace) -> None:
    """Make the demo's input."""
    manifest = make_demo(options.out)
    print(f"{manifest}: {sum(len(scene.turns) for scene in SCENES)} clips from {len(SCENES)} films")

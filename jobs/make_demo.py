"""Make the demo's input, films and manifest and the truth about every frame: ``python -m jobs.make_demo --out DIR``.

Nothing is downloaded: the face is NASA's photograph in the scikit-image wheel, the voice is synthetic.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from jobs.command import command, option
from jobs.demo.conversation import SCENES, Scene
from jobs.demo.film import Actor, write_film
from jobs.demo.truth import scene_truth
from schemas.clip import SIDES

MANIFEST = "demo.toml"
LICENCE = "public domain (NASA photograph, scikit-image)"


def make_demo(out: Path) -> Path:
    """Write the demo's films, clips, truth and, last, manifest into a folder; the manifest's path is returned."""
    out.mkdir(parents=True, exist_ok=True)
    actors = {name: Actor(name) for scene in SCENES for name in scene.people}
    for scene in SCENES:
        write_film(scene, actors, out / scene.file)
    heads = {name: actor.head for name, actor in actors.items()}
    truth = {"sources": [scene_truth(scene, heads) for scene in SCENES]}
    (out / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    _write_clips(out / "clips.csv")
    (out / MANIFEST).write_text(_manifest(), encoding="utf-8")
    return out / MANIFEST


def _write_clips(path: Path) -> None:
    rows = [row for scene in SCENES for row in _rows(scene)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(scene: Scene) -> list[dict[str, str | float]]:
    """The scene's clips as clips.csv has them."""
    rows: list[dict[str, str | float]] = []
    for turn in scene.turns:
        people = {turn.role(side): scene.person(side) for side in SIDES}
        rows.append(
            {
                "source": scene.source_id,
                "start_s": float(turn.span.start_s),
                "end_s": float(turn.span.end_s),
                "speaker_side": turn.speaker_side,
                "attitude": turn.attitude,
                "speaker_id": people["speaker"],
                "listener_id": people["listener"],
                "split": turn.split,
            }
        )
    return rows


def _manifest() -> str:
    sources = [f'[[sources]]\nid = "{s.source_id}"\npath = "{s.file}"\nlicence = "{LICENCE}"\n' for s in SCENES]
    dataset = '[dataset]\nname = "demo"\nclips = "clips.csv"\nmin_yield = 0.5\n'
    return "\n".join([dataset, *sources])


@command(option("--out", type=Path, required=True, help="folder to write to"))
def main(options: argparse.Namespace) -> None:
    """Make the demo's input."""
    manifest = make_demo(options.out)
    print(f"{manifest}: {sum(len(scene.turns) for scene in SCENES)} clips from {len(SCENES)} films")

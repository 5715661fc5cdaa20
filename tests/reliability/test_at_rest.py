"""What lies on the disk: the nine damages of which a data set of real conversations once knew nothing.

Each is found and named by `jobs.check`, refused by who reads it, and undone by `jobs.repair` to the same bytes.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from jobs import build, check, repair
from pipeline.dataset.read import ClipTable, media_file, read_clips, read_description
from pipeline.dataset.store import Store
from schemas.errors import UserError
from tests.conftest import SHARED
from tests.labs.media import Recipe, make_source
from tests.labs.rot import contents, cut, flip
from tests.labs.toy_build import write_manifest

FILM = "media/a_dyadic/grid_pair1_bbaf2n_brbk7n.mp4"  # CC BY 4.0 (GRID corpus)
STAGES = 'stages = ["acoustic", "threedmm"]\n'
SPANS = ("0,1", "1,2")
HERE = ("--address=none", "--workers=1")
CUT_BYTES = 2000


def two_portraits(folder: Path) -> Path:
    """A film that shows a photograph (NASA, public domain) twice, side by side, for those who have no ../shared."""
    side = skimage.data.astronaut()[:360, 60:420]
    picture = np.hstack([side, side[:, ::-1]])
    video, sound = {"vcodec": "libx264", "pix_fmt": "yuv420p"}, {"acodec": "aac"}
    recipe = Recipe(".mp4", video, sound, num_frames=75, size=picture.shape[1::-1])
    return make_source(folder / "portraits", recipe, picture.tobytes() * recipe.num_frames)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two clips of a real film, where there is one."""
    folder = tmp_path_factory.mktemp("at_rest")
    film = SHARED.resolve() / FILM if SHARED.is_dir() else two_portraits(folder)
    rows = [f"film,{span},left,neutral,p,q,train" for span in SPANS]
    manifest = write_manifest(folder / "real.toml", {"film": str(film)}, rows, STAGES)
    assert build.main([str(manifest), "--out", str(folder / "data"), *HERE]) == 0
    return folder / "data"


def cut_off(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[:-CUT_BYTES])


def read_all(root: Path, name: str) -> object:
    """A file of columns as a build reads it."""
    names = [column.name for column in ClipTable(root / name).columns()]
    return Store(root).read_table(Path(name).parent.name, Path(name).stem, [n for n in names if n != "clip_id"])


def refusal(root: Path, name: str) -> str:
    """What whoever reads a file of the data set says of it."""
    readers: dict[str, Callable[[], object]] = {
        "shards": lambda: list(read_clips(root, list(read_description(root).packed))),
        "columns": lambda: read_all(root, name),
        "media": lambda: media_file(root, name),
        "dataset.json": lambda: read_description(root),
    }
    with pytest.raises(UserError) as caught:
        readers[name.partition("/")[0]]()
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_of_nine_damages_is_named_refused_and_undone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    chance, undisturbed = random.Random(seed), contents(root)
    shard = "shards/train-00000-of-00001.parquet"
    clip_id = chance.choice([row["clip_id"] for row in read_clips(root)])
    part = next(path.stem for path in Store(root).column_files() if ClipTable(path).find(clip_id))
    of_clip, stages = f"media/{clip_id}", ("face", "threedmm", "acoustic")
    damages = [(shard, flip)] * 3 + [(f"columns/{stage}/{part}.parquet", flip) for stage in stages]
    damages += [(f"{of_clip}/listener.mp4", flip), (f"{of_clip}/audio.wav", flip), (f"{of_clip}/listener.mp4", cut_off)]
    for name, way in [*damages, ("dataset.json", cut)]:
        before = (root / name).read_bytes()
        way(root / name, chance)
        told = f"seed {seed}: {name}: {way.__name__}"
        assert check.main([str(root)]) == 1, told
        findings = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name}: ")]
        assert findings, told
        said = refusal(root, name)
        assert name in said and "jobs.repair" in said, told
        assert "of clips" not in findings[0] or findings[0].partition("; column ")[2] in said, told
        assert repair.main([str(root), *HERE]) == 0, told
        assert (root / name).read_bytes() == before, told
        assert contents(root) == undisturbed, told
        assert check.main([str(root)]) == 0, told
        capsys.readouterr()

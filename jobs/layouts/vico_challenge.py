"""The release of ViCo's challenges: a csv a split with ``videos/<uuid>.<role>.mp4`` and ``audios/<uuid>.wav``.

Of clips to be predicted it holds no video of the listener, but ``first_frames/<uuid>.listener.jpg`` and
``ref_images/<listener_id>.jpg``: the first of these that is there stands for the listener.

The data are named ``vico challenge``, or ``vico challenge 2023`` where ``--challenge 2023`` tells the year, since their
folder does not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jobs.layouts import Layout, Moved
from jobs.layouts.release.clips import Found, PublishedClip, published, read_table
from jobs.layouts.release.exported import CHALLENGE_COLUMNS, export_clips, write_challenge_csv
from jobs.layouts.release.manifest import TIME_UNIT, write_manifest
from pipeline.dataset.storage import Location
from schemas.clip import ID_PATTERN, SPLITS
from schemas.errors import UserError
from stages.evaluate.leaderboard.ranking import DATA_2022, DATA_2023

CHALLENGES = {"2022": DATA_2022, "2023": DATA_2023}  # year -> name of the data
WRITTEN = "listening_head"


class VicoChallenge(Layout):
    """A clip without attitude, which the challenge dropped; our own export keeps it in a column more."""

    reads = "a challenge's release: train.csv (val, test, ood), videos/, audios/"
    writes = f"a challenge's release, {WRITTEN}/ with a csv a split, videos/ and audios/"
    loses = "columns other than the 45 acoustic features and the coefficients of the published baseline"
    read_options = {
        "--challenge": {"choices": CHALLENGES, "help": "the year of a challenge's folder, which does not say it"},
        "--time-unit": TIME_UNIT,
    }

    def read(self, folder: Path, out: Path, *, challenge: str | None = None, time_unit: str | None = None) -> Moved:
        """Write the manifest of a release; `UserError` if there is no table, or one with other columns."""
        tables = [(split, folder / f"{split}.csv") for split in SPLITS if (folder / f"{split}.csv").is_file()]
        if not tables:
            expected = ", ".join(f"{split}.csv" for split in SPLITS)
            raise UserError(f"{folder}: expected one of {expected}; ViCo's full RLD_data.csv is read by --layout vico")
        found = Found()
        for split, path in tables:
            for row in read_table(path, CHALLENGE_COLUMNS):
                names = (f"{row['uuid']}.speaker", f"{row['uuid']}.listener", row["uuid"])
                found.add(_or_portrait(folder, published(folder, row["uuid"], names, row, split)))
        return write_manifest(CHALLENGES[challenge] if challenge else "vico challenge", found, out, time_unit)

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the release of a data set, with the baseline's features beside it."""
        rows = export_clips(dataset, out / WRITTEN, out)
        for split in SPLITS:
            if members := [row for row in rows if row["split"] == split]:
                write_challenge_csv(out / WRITTEN / f"{split}.csv", members)
        return Moved([row["clip_id"] for row in rows])


def _or_portrait(folder: Path, clip: PublishedClip) -> PublishedClip:
    """The clip with a picture in place of the listener's video where it has none."""
    if not all(ID_PATTERN.fullmatch(name or "") for name in (clip.clip_id, clip.listener_id)):
        return clip  # to be refused: such a name is not even looked for
    pictures = (folder / f"first_frames/{clip.clip_id}.listener.jpg", folder / f"ref_images/{clip.listener_id}.jpg")
    there = [picture for picture in pictures if picture.is_file()]
    return clip if clip.listener.is_file() or not there else replace(clip, listener=there[0], portrait=True)

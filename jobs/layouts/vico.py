"""ViCo's full release (Zhou et al., ECCV 2022): ``RLD_data.csv`` with ``videos/`` and ``audios/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.layouts import Layout, Moved
from jobs.layouts.release.clips import Found, published, read_table
from jobs.layouts.release.exported import Row, export_clips
from jobs.layouts.release.manifest import TIME_UNIT, write_manifest
from pipeline.dataset.storage import Location
from pipeline.manifest.write import write_csv
from schemas.errors import UserError

RELEASE_CSV = "RLD_data.csv"
RELEASE_COLUMNS = ("attitude", "audio", "listener", "speaker", "listener_id", "speaker_id", "data_split")


class Vico(Layout):
    """Names of files are looked up in the table, never derived from each other."""

    reads = writes = f"ViCo's full release: {RELEASE_CSV}, videos/, audios/"
    loses = "columns other than the 45 acoustic features and the coefficients of the published baseline"
    read_options = {"--time-unit": TIME_UNIT}

    def read(self, folder: Path, out: Path, *, time_unit: str | None = None) -> Moved:
        """Write the manifest of a release; `UserError` if there is no table, or one with other columns."""
        if not (folder / RELEASE_CSV).is_file():
            raise UserError(
                f"{folder}: expected {RELEASE_CSV}; a challenge's train.csv is read by --layout vico_challenge"
            )
        found = Found()
        for row in read_table(folder / RELEASE_CSV, RELEASE_COLUMNS):
            names = (row["speaker"], row["listener"], row["audio"])
            found.add(published(folder, row["audio"], names, row, row["data_split"]))
        return write_manifest("vico", found, out, time_unit)

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the release of a data set, with the baseline's features."""
        rows = export_clips(dataset, out, out)
        write_csv(out / RELEASE_CSV, RELEASE_COLUMNS, map(_release_row, rows))
        return Moved([row["clip_id"] for row in rows])


def _release_row(row: Row) -> list[Any]:
    name = row["clip_id"]
    people = [row["listener_id"], row["speaker_id"]]
    return [row["attitude"], name, f"{name}.listener", f"{name}.speaker", *people, row["split"]]

"""A dataset repository of the Hugging Face Hub: the card, ``dataset.json``, the shards, the films and sound of clips.

Goes up by `huggingface_hub` (Apache-2.0), which finds the user's token itself. A repository that is not there yet is
made, private. What already stands there with the same content is left, so a push that was interrupted is run again and
goes on; a file of clips or shards that the data set no longer holds is deleted there. ``dataset.json`` and the card go
last: who finds them finds all else. A data set whose ``takedown.txt`` names clips that its shards hold is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.layouts import Layout, Moved
from pipeline.dataset.read import FILE, media_file, read_clips, read_description
from pipeline.dataset.storage import Location
from pipeline.sources.takedown import FILE as TAKEDOWN
from schemas.errors import UserError

CARD = "README.md"
LAST = (FILE, CARD)
OWN = ("media/", "shards/")  # what is deleted there once it is gone here
COMMIT_FILES = 100  # what an interruption loses at most
BLOCK_BYTES = 2**20


class Hub(Layout):
    """Licences stand in the card, which a build writes, a line a source."""

    writes = "a dataset repository of the Hugging Face Hub (--repo USER/NAME): card, dataset.json, shards, media"
    loses = "columns that only stand outside the shards, the ledger"
    to_folder = False
    write_options = {
        "--repo": {"help": "USER/NAME on the Hub"},
        "--dry-run": {"action": "store_true", "help": "say what would go up, and ask nobody"},
        "--endpoint": {"help": "of another Hub than huggingface.co"},
    }

    def write(
        self,
        dataset: Location,
        out: Path,
        *,
        repo: str | None = None,
        dry_run: bool = False,
        endpoint: str | None = None,
    ) -> Moved:
        """Push a data set; `UserError` for one that may not be shown, or what the Hub refuses."""
        if not repo:
            raise UserError("--repo: expected USER/NAME, found none; add it")
        if not isinstance(dataset, Path):
            raise UserError(f"{dataset}: expected a folder; copy the data set first: aws s3 sync")
        clips, files = _files(dataset)
        if dry_run:
            listing = ", ".join(f"{name} {(dataset / name).stat().st_size} bytes" for name in files if "/" not in name)
            size = sum((dataset / name).stat().st_size for name in files)
            return Moved(clips, next=f"dry run: {len(files)} files, {size / 1e6:.1f} MB would go to {repo} ({listing})")
        pushed, deleted = _push(dataset, files, repo, endpoint)
        return Moved(clips, next=f"{pushed} of {len(files)} files went to {repo}, {deleted} were deleted there")


def _files(dataset: Path) -> tuple[list[str], list[str]]:
    """Ids of the clips, and names of the files to push, those that go last at the end."""
    description = read_description(dataset)
    media = [column.name for column in description.columns if column.media and column.name in description.packed]
    clips, files = [], []
    for row in read_clips(dataset, media):
        clips.append(row["clip_id"])
        for name in filter(None, (row[column] for column in media)):
            media_file(dataset, name)
            files.append(name)
    if len(clips) != description.published:
        count = description.published - len(clips)
        raise UserError(
            f"{dataset}: {TAKEDOWN} names {count} clips that its shards still hold, expected none; build the data set "
            "again with [dataset] takedown in its manifest"
        )
    if not (dataset / CARD).is_file():
        raise UserError(f"{dataset}: expected its card {CARD}, which python -m jobs.build writes, found none")
    files += [f"shards/{shard.file}" for shard in description.shards]
    return clips, [*files, *(name for name in (TAKEDOWN, *LAST) if (dataset / name).is_file())]


def _push(dataset: Path, files: list[str], repo: str, endpoint: str | None) -> tuple[int, int]:
    """Bring a repository to this state; returns how many files went up and how many were deleted."""
    import httpx2
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(endpoint=endpoint)
    kind: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}
    try:
        api.create_repo(**kind, private=True, exist_ok=True)
        there = {entry.path: entry for entry in api.list_repo_tree(**kind, recursive=True) if hasattr(entry, "blob_id")}
        new = [name for name in files if name not in there or not _is_same(dataset / name, there[name])]
        for batch in _batches(new):
            added = [CommitOperationAdd(name, dataset / name) for name in batch]
            api.create_commit(**kind, operations=added, commit_message=f"{len(batch)} files of {dataset.name}")
        gone = sorted(name for name in set(there) - set(files) if name.startswith(OWN))
        if gone:
            deleted = [CommitOperationDelete(name) for name in gone]
            api.create_commit(**kind, operations=deleted, commit_message=f"{len(gone)} files are gone")
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{repo}: the Hub refused: {told}; what went up is kept: run the same command again") from None
    return len(new), len(gone)


def _batches(files: list[str]) -> Iterator[list[str]]:
    """`COMMIT_FILES` at most, and those that go last in one of their own."""
    first, last = [name for name in files if name not in LAST], [name for name in files if name in LAST]
    yield from (first[i : i + COMMIT_FILES] for i in range(0, len(first), COMMIT_FILES))
    if last:
        yield last


def _is_same(path: Path, entry: Any) -> bool:
    """Whether a file has the content of the one there: by sha256 of a large file, by git's own hash of a small one."""
    size = path.stat().st_size
    if size != entry.size:
        return False
    if entry.lfs:
        digest, wanted = hashlib.sha256(), entry.lfs.sha256
    else:
        digest, wanted = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), entry.blob_id
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return bool(digest.hexdigest() == wanted)

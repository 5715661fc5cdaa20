"""Downloading the sources of a manifest: politely, resumably, one file a source, with an entry for each of them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.manifest.load import Manifest, Source
from pipeline.media.reader import MediaError, SourceReader
from pipeline.sources.availability import CHANGED, NOT_TRIED, OK, OVER_LIMIT, UNSUPPORTED, Availability, Entry
from pipeline.sources.host import Unavailable, VideoLimits, get_video
from pipeline.sources.rate_limit import RateLimit
from pipeline.stage import setting
from schemas.errors import UserError

PASSING = ("network", "rate_limited")  # worth another attempt at once
MIB = 2**20


@dataclass(frozen=True)
class DownloadSettings:
    """Settings of downloading: ``[stages.download]`` in the manifest, ``--set download.per_minute=2``."""

    per_minute: float = setting(4.0, "sources a minute of one host, over all processes that share the folder")
    burst: int = setting(2, "sources of one host that may come without waiting")
    attempts: int = setting(3, "attempts at a source whose trouble may pass (network, rate_limited)")
    backoff_s: float = setting(10.0, "pause after the first failed attempt; it doubles with each further one")
    timeout_s: float = setting(30.0, "longest silence of a host")
    max_mib: int = setting(4096, "largest file")
    max_s: float = setting(4 * 3600.0, "longest video")
    max_height_px: int = setting(1080, "tallest picture that is chosen where a host offers several")
    cookies: str = setting("", "a cookies.txt (Netscape format), relative to the manifest, for hosts that want a login")
    workers: int = setting(2, "sources that are downloaded at a time")
    internal_hosts: tuple[str, ...] = setting(
        (), "hosts that may be asked although they are not on the public internet; only with --set"
    )

    def limits(self, manifest: Path) -> VideoLimits:
        """What one video may cost."""
        cookies = manifest.parent / self.cookies if self.cookies else None
        if cookies and not cookies.is_file():
            raise UserError(
                f"[stages.download] cookies: found {self.cookies!r}, allowed: a file; there is no {cookies}"
            )
        return VideoLimits(
            self.max_mib * MIB, self.max_s, self.max_height_px, self.timeout_s, cookies, self.internal_hosts
        )


class Downloads:
    """The sources of a manifest that have a url, on their way into ``downloads/``."""

    def __init__(self, manifest: Manifest, settings: DownloadSettings) -> None:
        self.settings = settings
        self.availability = Availability(manifest.path)
        self.limits = settings.limits(manifest.path)
        self.rate = RateLimit(self.availability.folder / ".rate", settings.per_minute, settings.burst)
        self.sources = [source for source in manifest.sources.values() if source.url]

    def wanted(self, retry: Collection[str]) -> list[Source]:
        """Sources to ask for: those of the classes to retry, else those never asked for or whose file has gone."""
        entries = {source.source_id: self._entry(source) for source in self.sources}
        classes = retry or (NOT_TRIED,)
        return [source for source in self.sources if entries[source.source_id].outcome in classes]

    def run(self, sources: list[Source]) -> Iterator[Entry]:
        """Download sources, some at a time; yields their entries, recorded already, as they finish."""
        with ThreadPoolExecutor(self.settings.workers) as pool:
            for future in as_completed([pool.submit(self._one, source) for source in sources]):
                yield future.result()

    def entries(self) -> list[Entry]:
        """Where every source with a url stands."""
        return [self._entry(source) for source in self.sources]

    def _entry(self, source: Source) -> Entry:
        entry = self.availability.entry(source.source_id, source.url)
        if entry.ok and not (self.availability.folder / entry.file).is_file():
            return replace(entry, outcome=NOT_TRIED, message="its file has gone")
        return entry

    def _one(self, source: Source) -> Entry:
        with self.availability.locked(source.source_id):  # another job on this folder may be at it
            entry = self._entry(source)
            if not entry.ok:
                entry = self._attempts(source)
                self.availability.record(entry)
        return entry

    def _attempts(self, source: Source) -> Entry:
        pause_s = self.settings.backoff_s
        for attempt in range(1, self.settings.attempts + 1):
            self.rate.wait(source.url)
            try:
                return self._accept(source, get_video(source.url, self._incoming(source), self.limits))
            except Unavailable as error:
                entry = Entry(source.source_id, source.url, error.outcome, _now(), error.message)
            if entry.outcome not in PASSING:
                shutil.rmtree(self._incoming(source), ignore_errors=True)
                break
            if attempt < self.settings.attempts:
                time.sleep(pause_s)
                pause_s *= 2
        return entry

    def _accept(self, source: Source, file: Path) -> Entry:
        """Look at a downloaded file through the sandbox and move it to its place."""
        shape = _shape(file, self.limits)
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        if source.sha256 and sha256 != source.sha256:
            raise Unavailable(CHANGED, f"sha256 {sha256}, the manifest names {source.sha256}")
        target = self.availability.folder / f"{source.source_id}{file.suffix}"
        size = file.stat().st_size
        file.replace(target)
        shutil.rmtree(self._incoming(source))
        entry = Entry(source.source_id, source.url, OK, _now(), file=target.name, bytes=size)
        return replace(entry, sha256=sha256, format=shape)

    def _incoming(self, source: Source) -> Path:
        return self.availability.folder / ".incoming" / source.source_id


def _shape(file: Path, limits: VideoLimits) -> str:
    """Container, codecs, size, rate and length of a video, or `Unavailable` if it is none."""
    try:
        with SourceReader(file) as reader:
            info = reader.info()
    except MediaError as error:
        raise Unavailable(UNSUPPORTED, f"not a video that can be read: {error.reason}: {error.detail}") from None
    if info.duration_s > limits.max_s:
        raise Unavailable(OVER_LIMIT, f"{info.duration_s:.0f} s long, {limits.max_s:.0f} s at most")
    sound = info.audio.codec if info.audio else "no sound"
    rate = f"{float(info.average_fps):.3f} fps"
    return f"{info.container} {info.video_codec} {info.width}x{info.height} {rate} {sound} {info.duration_s:.1f} s"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

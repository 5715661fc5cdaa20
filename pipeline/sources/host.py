"""One attempt to get one video from its host, by yt-dlp's Python API, and the class of its failure.

What a host sends is not trusted: http and https only, public addresses only, no playlists, no plugins, no configuration
files, no commands, no other program but our ffmpeg, which joins picture and sound from files of single-file containers;
names of files are ours.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.sources.availability import OVER_LIMIT, UNSUPPORTED
from pipeline.sources.public_network import public_only
from schemas.errors import INVISIBLE

# The first pattern found in the host's words decides: what is more specific stands first.
CLASSES = (
    ("bot_check", r"not a (ro)?bot|captcha|automated quer|unable to download video data: HTTP Error 403"),
    ("age_gated", r"confirm your age|age.?restrict|inappropriate for some users"),
    ("rate_limited", r"HTTP Error 429|too many requests|rate.?limit|try again later"),
    ("geo_blocked", r"geo.?(restrict|block)|in your (country|location|region)|from your (country|location|region)"),
    ("private", r"private|members.only|log(ged)?.?in|sign in|password|HTTP Error 40[13]"),
    (
        UNSUPPORTED,
        r"unsupported url|(scheme|handler|protocol|file:).*|drm|no video formats|format is not available"
        r"|not on the public internet",
    ),
    ("network", r"HTTP Error 5\d\d"),
    ("removed", r"HTTP Error (404|410)|unavailable|not available|removed|terminated|deleted|does not exist"),
    (
        "network",
        r"timed? ?out|connection|more expected|incomplete|content too short|resol|unreachable|reset"
        r"|certificate|ssl|no route|failed to (connect|respond)|giving up",
    ),
)
COOKIES = "cookies.txt"
JOINED_CONTAINERS = "mov,matroska,webm,mp3,aac,flac,ogg,flv,mpegts"  # no list of segments, no list of files
PROTOCOLS = "^(https?|m3u8_native|http_dash_segments)$"  # downloaded by yt-dlp itself; for others it would call ffmpeg


class Unavailable(Exception):  # an answer, as Reject is
    """A video could not be had: an outcome of `pipeline.sources.availability`, and why in the host's words."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(f"{outcome}: {message}")
        self.outcome = outcome
        self.message = message


@dataclass(frozen=True)
class VideoLimits:
    """What one video may cost."""

    max_bytes: int
    max_s: float
    max_height_px: int
    timeout_s: float
    cookies: Path | None
    internal_hosts: tuple[str, ...] = ()


def get_video(url: str, folder: Path, limits: VideoLimits) -> Path:
    """Download a video into a folder of its own and return its file; an earlier broken attempt there is continued."""
    import yt_dlp
    from yt_dlp.globals import plugin_dirs

    plugin_dirs.value = []  # other people's code
    folder.mkdir(parents=True, exist_ok=True)
    if limits.cookies:
        shutil.copy(limits.cookies, folder / COOKIES)  # yt-dlp writes to its cookies, and several of it run at a time
    log = _Log()
    try:
        options = _options(folder, limits, log)
        with public_only(limits.internal_hosts), yt_dlp.YoutubeDL(options) as downloader:
            downloader.extract_info(url, download=True)
    except Exception as error:  # whatever an extractor trips over is an answer about this source
        raise _as_unavailable(error) from error
    files = [path for path in folder.iterdir() if path.stem == "video" and path.suffix not in (".part", ".ytdl")]
    if len(files) != 1:
        raise Unavailable(classify(log.text) if log.text else UNSUPPORTED, log.text or "the host sent no video")
    return files[0]


def classify(text: str) -> str:
    """The class of a failure, from the host's or yt-dlp's words."""
    for outcome, pattern in CLASSES:
        if re.search(pattern, text, flags=re.IGNORECASE):
            return outcome
    return UNSUPPORTED


def _options(folder: Path, limits: VideoLimits, log: _Log) -> dict[str, Any]:
    import imageio_ffmpeg

    height, filters = f"[height<=?{limits.max_height_px}]", f"[protocol~='{PROTOCOLS}']"
    return {
        "format": f"bv*{height}{filters}+ba{filters}/b{height}{filters}/b{filters}",
        "paths": {"home": str(folder)},
        "outtmpl": {"default": "video.%(ext)s"},
        "ffmpeg_location": imageio_ffmpeg.get_ffmpeg_exe(),
        "postprocessor_args": {"merger+ffmpeg_i": _only_files()},
        "max_filesize": limits.max_bytes,
        "match_filter": lambda info, *, incomplete=False: _refuse(info, limits),
        "progress_hooks": [lambda status: _check_size(status, limits)],
        "cookiefile": str(folder / COOKIES) if limits.cookies else None,
        "socket_timeout": limits.timeout_s,
        "retries": 1,  # of one connection; the attempts that count are ours
        "fragment_retries": 3,
        "extractor_retries": 0,
        "continuedl": True,
        "noplaylist": True,
        "playlist_items": "1",
        "hls_prefer_native": True,
        "enable_file_urls": False,
        "fixup": "never",
        "updatetime": False,
        "cachedir": False,
        "noprogress": True,
        "quiet": True,
        "logger": log,
    }


def _only_files() -> list[str]:
    """Options for each input of ffmpeg, which would take a list of other files for a video if a host sent one."""
    return ["-protocol_whitelist", "file", "-format_whitelist", JOINED_CONTAINERS]


def _refuse(info: Mapping[str, Any], limits: VideoLimits) -> str | None:
    """Called with what a host says of a video before it is downloaded."""
    if (info.get("duration") or 0) > limits.max_s:
        raise Unavailable(OVER_LIMIT, f"{info['duration']:.0f} s long, {limits.max_s:.0f} s at most")
    if info.get("is_live"):
        raise Unavailable(UNSUPPORTED, "a live stream, which has no end")
    return None


def _check_size(status: Mapping[str, Any], limits: VideoLimits) -> None:
    """Called while a file comes in: not every host says beforehand how much it will send."""
    if (status.get("downloaded_bytes") or 0) > limits.max_bytes:
        raise Unavailable(OVER_LIMIT, f"more than {limits.max_bytes} bytes")


def _as_unavailable(error: Exception) -> Unavailable:
    """The class of an exception, its causes included."""
    from yt_dlp.utils import GeoRestrictedError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Unavailable):
            return cause
        if isinstance(cause, GeoRestrictedError):
            return Unavailable("geo_blocked", _plain(str(cause)))
        inner = getattr(cause, "exc_info", None) or (None, None)
        cause = inner[1] if inner[1] is not cause and inner[1] is not None else cause.__cause__
    text = _plain(str(error))
    return Unavailable(classify(text), text)


def _plain(text: str) -> str:
    """A message without yt-dlp's colours and its advice on reporting bugs, on one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.split(r"; please report this issue|\(caused by|Confirm you are on the latest", text)[0]
    return INVISIBLE.sub("", " ".join(text.removeprefix("ERROR: ").split()))[:300]


class _Log:
    """Takes yt-dlp's messages: some failures it only talks about."""

    def __init__(self) -> None:
        self.text = ""

    def debug(self, message: str) -> None:
        if "max-filesize" in message:
            raise Unavailable(OVER_LIMIT, _plain(message.split("]")[-1]))

    info = debug

    def warning(self, message: str) -> None:
        pass

    def error(self, message: str) -> None:
        self.text = _plain(message)

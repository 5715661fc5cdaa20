"""Bad media by the thousand: seeds that ffmpeg encodes here, and everything that a fixed generator does to them.

Every specimen is a pure function of the seeds and its number, so a failure is found again by its name. The families:

flipped      bits turned over, bytes zeroed, blocks lost, doubled, exchanged
cut          ends early, begins late, or holds next to nothing
grafted      the head of one container on the body of another
lying        absurd numbers in headers: durations, sizes, counts, rates, offsets
nested       boxes in boxes in boxes
misnamed     something else under the name of a film, or a film under another name
leading      playlists and other formats that refer to files and addresses
"""

from __future__ import annotations

import gzip
import io
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.clock import Span
from pipeline.media.reader import MEDIA_REASONS, MediaError, ReadingLimits, SourceReader
from tests.labs.media import Recipe, make_source

LIMITS = ReadingLimits(wall_s=60, cpu_s=60, threads=1)
HANGS_S = 120.0  # for one file, on however busy a machine: every request to the reader has its own limit of 60 s
X264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "g": 10}
VP9 = {"vcodec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "g": 10}
SMALL = {"num_frames": 30, "size": (128, 72)}
RECIPES = {
    "mp4": Recipe(".mp4", X264, {"acodec": "aac"}, **SMALL),
    "mov": Recipe(".mov", {"vcodec": "mjpeg", "q:v": 5, "pix_fmt": "yuvj420p"}, {"acodec": "pcm_s16be"}, **SMALL),
    "mkv": Recipe(".mkv", X264, {"acodec": "flac"}, **SMALL),
    "webm": Recipe(".webm", VP9, {"acodec": "libopus"}, **SMALL, sample_rate_hz=48_000),
    "avi": Recipe(".avi", {"vcodec": "mpeg4", "q:v": 9}, {"acodec": "ac3"}, **SMALL),
    "ts": Recipe(".ts", X264, {"acodec": "mp2"}, **SMALL),
    "flv": Recipe(".flv", {"vcodec": "flv"}, {"acodec": "libmp3lame"}, **SMALL),
    "ogv": Recipe(".ogv", {"vcodec": "libtheora"}, {"acodec": "libvorbis"}, **SMALL),
}
EXTREMES = (0, 1, 2, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
MP4_FIELDS = b"mvhd mdhd tkhd elst avc1 avcC mp4a stts stss stsz stsc stco".split()
# time scale, duration, width, height, frame duration, sampling rate, channels, cluster, its time, block, tracks
MKV_FIELDS = [
    bytes.fromhex(text)
    for text in ["2ad7b1", "4489", "b0", "ba", "23e383", "b5", "9f", "1f43b675", "e7", "a3", "1654ae6b"]
]
MKV_NESTED = [bytes.fromhex(text) for text in ["18538067", "1f43b675", "1254c367", "1043a770", "45b9b6"]]
OTHER_FIELDS = b"avih strh strf idx1 onMetaData duration width \x47\x40 OggS theora".split()
SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".ts", ".flv", ".wav", ".jpg", ".m3u8", ".sdp", ".txt", "", ".mpd")


@dataclass(frozen=True)
class Specimen:
    """One bad file: a name that tells family, seed and trial, and its bytes."""

    family: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Targets:
    """What formats that refer to others are made to refer to: a file, and a server on loopback."""

    file: Path
    port: int


def make_seeds(folder: Path) -> dict[str, bytes]:
    """A small whole film of every container, by its suffix."""
    return {name: make_source(folder / f"seed_{name}", recipe).read_bytes() for name, recipe in RECIPES.items()}


def make_conversation(folder: Path) -> bytes:
    """A film of two real faces (the public-domain portrait of scikit-image), with sound: both stages get to the end."""
    from skimage import data

    portrait = Image.fromarray(data.astronaut()[0:200, 120:320])
    picture = np.full((240, 480, 3), 96, np.uint8)
    picture[30:210, 30:210] = np.asarray(portrait.resize((180, 180)))
    picture[30:210, 270:450] = picture[30:210, 30:210][:, ::-1]
    clicks = tuple(Fraction(k, 20) for k in range(24))
    recipe = Recipe(".mp4", X264, {"acodec": "aac"}, num_frames=36, size=(480, 240), click_times_s=clicks)
    return make_source(folder / "conversation", recipe, picture.tobytes() * recipe.num_frames).read_bytes()


def read_whole(folder: Path, specimen: Specimen) -> str:
    """What reading everything of a bad file comes to: "read" or a reason. Anything else is an error of ours."""
    path = folder / specimen.name
    path.write_bytes(specimen.data)
    started = time.monotonic()
    try:
        with SourceReader(path, LIMITS) as reader:
            reader.info()
            list(reader.frames(reader.frame_times().pts, size=(64, 36)))
            reader.audio(Span(Fraction(0), Fraction(1)))
        return "read"
    except MediaError as error:
        assert error.reason in MEDIA_REASONS and path.name in error.detail, specimen.name
        return error.reason
    finally:
        path.unlink()
        assert time.monotonic() - started < HANGS_S, f"{specimen.name} hangs"


def every(seeds: dict[str, bytes], targets: Targets, draw: int = 0) -> dict[str, list[Specimen]]:
    """All specimens, 1,135 of them, by family; with another ``draw`` the 697 of the first four families are others."""
    random = (flipped(seeds, 25, draw), cut(seeds, 17, draw), grafted(seeds, 17, draw), lying(seeds, 28, draw))
    families = map(list, (*random, nested(seeds), misnamed(seeds), leading(seeds, targets)))
    return {specimens[0].family: specimens for specimens in families}


def flipped(seeds: dict[str, bytes], trials: int, draw: int = 0) -> Iterator[Specimen]:
    for name, seed, rng, trial in _each(seeds, trials, 1, draw):
        data = np.frombuffer(seed, np.uint8).copy()
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 2000))
        kind = trial % 5
        if kind == 0:  # in the head, where the structure stands
            data[rng.integers(0, min(len(data), 1500), 1 + trial)] ^= 1 << rng.integers(8)
        elif kind == 1:
            data[rng.integers(0, len(data), 1 + 20 * trial)] ^= rng.integers(1, 256, 1 + 20 * trial, dtype=np.uint8)
        elif kind == 2:
            data[start : start + length] = rng.choice([0, 255])
        elif kind == 3:
            data = np.delete(data, slice(start, start + length))
        else:
            other = int(rng.integers(len(data)))
            data = np.concatenate([data[:start], data[other : other + length], data[start:]])
        yield Specimen("flipped", f"flipped_{kind}_{trial}.{name}", data.tobytes())


def cut(seeds: dict[str, bytes], trials: int, draw: int = 0) -> Iterator[Specimen]:
    for name, seed, rng, trial in _each(seeds, trials, 2, draw):
        where = int(rng.integers(len(seed)))
        pieces = (seed[:where], seed[where:], seed[: where % 600], seed[: trial % 16], seed[:where] + bytes(5000))
        yield Specimen("cut", f"cut_{trial % 5}_{trial}.{name}", pieces[trial % 5])
    yield Specimen("cut", "cut_empty.mp4", b"")


def grafted(seeds: dict[str, bytes], trials: int, draw: int = 0) -> Iterator[Specimen]:
    names = list(seeds)
    for name, seed, rng, trial in _each(seeds, trials, 3, draw):
        other = names[(names.index(name) + 1 + trial % (len(names) - 1)) % len(names)]
        length = int(rng.choice([4, 8, 12, 32, 188, 600, 2000]))
        head = seeds[other][:length]
        data = head + seed[length:] if trial % 2 else head + seed
        yield Specimen("grafted", f"grafted_{other}_{length}_{trial}.{name}", data)


def lying(seeds: dict[str, bytes], trials: int, draw: int = 0) -> Iterator[Specimen]:
    """An extreme number somewhere in the 64 bytes behind the name of a field."""
    fields = {"mp4": MP4_FIELDS, "mov": MP4_FIELDS, "mkv": MKV_FIELDS, "webm": MKV_FIELDS}
    for name, seed, rng, trial in _each(seeds, trials, 4, draw):
        present = [field for field in fields.get(name, OTHER_FIELDS) if field in seed]
        field = present[trial % len(present)]
        data = bytearray(seed)
        for _ in range(1 + trial % 3):
            at = seed.index(field) + len(field) + int(rng.integers(-4 if name in ("mp4", "mov") else 0, 64))
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice(EXTREMES)) * (2**32 + 1) if width == 8 else int(rng.choice(EXTREMES))
            data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little" if name == "avi" else "big")
        yield Specimen("lying", f"lying_{trial}.{name}", bytes(data[: len(seed)]))


def nested(seeds: dict[str, bytes]) -> Iterator[Specimen]:
    mp4, mkv = seeds["mp4"], seeds["mkv"]
    for depth in (10, 100, 1000, 20_000):
        for kind in (b"moov", b"trak", b"udta", b"meta", b"stsd", b"moof"):
            boxes = b"".join(struct.pack(">I4s", 8 * (depth - k), kind) for k in range(depth))
            yield Specimen("nested", f"nested_{kind.decode()}_{depth}.mp4", mp4[:32] + boxes + mp4[32:])
        for element in MKV_NESTED:
            unknown = (element + b"\x01\xff\xff\xff\xff\xff\xff\xff") * depth
            name = f"nested_{element.hex()}_{depth}"
            yield Specimen("nested", f"{name}.mkv", mkv[: mkv.index(MKV_NESTED[0])] + unknown + mkv)
            yield Specimen("nested", f"{name}_inside.mkv", mkv[:60] + unknown + mkv[60:])
        lists = b"".join(struct.pack("<4sI4s", b"LIST", 12 * (depth - k), b"hdrl") for k in range(depth))
        yield Specimen("nested", f"nested_list_{depth}.avi", b"RIFF\xff\xff\xff\x7fAVI " + lists + seeds["avi"][12:])


def misnamed(seeds: dict[str, bytes]) -> Iterator[Specimen]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(2**22))
    others = {
        "zip": packed.getvalue(),
        "gzip": gzip.compress(gzip.compress(bytes(2**22))),
        "script": b"#!/bin/sh\ntouch /tmp/pwned\n",
        "pickle": b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.",
        "html": b"<html><script>alert(1)</script></html>" * 50,
        "ass": b"[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:05.00,x\n",
        "elf": Path("/proc/self/exe").read_bytes()[:4000],
        "noise": np.random.default_rng(9).bytes(30_000),
        "zeros": bytes(30_000),
        "gif": b"GIF89a\xff\xff\xff\xff\xf7\x00\x00" + bytes(900),
        "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00" + bytes(99),
    }
    for name, data in {**others, **seeds}.items():
        for suffix in SUFFIXES[:: 1 if name in ("mp4", "zip") else 4]:
            yield Specimen("misnamed", f"misnamed_{name}{suffix}", data)


def leading(seeds: dict[str, bytes], targets: Targets) -> Iterator[Specimen]:
    """Files of every kind that leads to others, under the name of a film and under their own."""
    places = {
        "path": str(targets.file),
        "relative": f"../{targets.file.parent.name}/{targets.file.name}",
        "file": f"file://{targets.file}",
        "http": f"http://127.0.0.1:{targets.port}/film.mp4",
        "udp": f"udp://127.0.0.1:{targets.port}",
        "tcp": f"tcp://127.0.0.1:{targets.port}",
        "rtsp": f"rtsp://127.0.0.1:{targets.port}/film",
        "concat": f"concat:{targets.file}|{targets.file}",
        "subfile": f"subfile,,start,0,end,0,,:{targets.file}",
        "data": "data:video/mp4;base64,AAAAIGZ0eXBpc29t",
        "pipe": "pipe:0",
        "crypto": f"crypto+file://{targets.file}",
        "cache": f"cache:http://127.0.0.1:{targets.port}/",
        "fd": "fd:",
        "pattern": str(targets.file.parent / "%d.mp4"),
    }
    for number, (kind, write) in enumerate(REFERENCES.items()):
        for other, (place, address) in enumerate(places.items()):
            suffix = (".mp4", f".{kind}")[(number + other) % 2]
            yield Specimen("leading", f"leading_{kind}_{place}{suffix}", write(address))
    for place, address in places.items():
        yield Specimen("leading", f"leading_dref_{place}.mov", external_data(seeds["mov"], address))
        yield Specimen("leading", f"leading_appended_{place}.mp4", seeds["mp4"] + REFERENCES["m3u8"](address))


def external_data(film: bytes, address: str) -> bytes:
    """A QuickTime film whose samples lie in another file, by the address in its data reference."""
    inside = b"\x00\x00\x00\x0curl \x00\x00\x00\x01"  # flag 1: the data are in this very file
    kind, content = (b"url ", address.encode() + b"\0") if "://" in address else (b"alis", _alias(address))
    outside = struct.pack(">I4sI", 12 + len(content), kind, 0) + content
    at = film.index(inside)
    data = bytearray(film[:at] + outside + film[at + len(inside) :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):  # the boxes around it have grown
        place = film.index(name) - 4
        (size,) = struct.unpack_from(">I", data, place)
        struct.pack_into(">I", data, place, size + len(outside) - len(inside))
    return bytes(data)


def _alias(path: str) -> bytes:
    """A Macintosh alias record that holds an absolute path (its entry number 18)."""
    name = path.encode()
    return bytes(150) + struct.pack(">HH", 18, len(name)) + name + bytes(len(name) % 2) + struct.pack(">hH", -1, 0)


def _mpd(address: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="0" bandwidth="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period>'
        "</MPD>"
    ).encode()


def _sdp(address: str) -> bytes:
    port = address.rpartition(":")[2] if address.startswith(("udp", "tcp")) else "5004"
    return (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={address}\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{address}\n"
    ).encode()


REFERENCES: dict[str, Callable[[str], bytes]] = {
    "m3u8": lambda a: f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{a}\n#EXT-X-ENDLIST\n".encode(),
    "key.m3u8": lambda a: (
        f'#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI="{a}"\n#EXTINF:4,\nx.ts\n#EXT-X-ENDLIST\n'
    ).encode(),
    "master.m3u8": lambda a: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{a}\n".encode(),
    "ffconcat": lambda a: f"ffconcat version 1.0\nfile '{a}'\n".encode(),
    "ffmeta": lambda a: f";FFMETADATA1\ntitle={a}\nfile={a}\n[CHAPTER]\nSTART=0\nEND=1\ntitle={a}\n".encode(),
    "mpd": _mpd,
    "sdp": _sdp,
    "asx": lambda a: f'<asx version="3.0"><entry><ref href="{a}"/></entry></asx>'.encode(),
    "smil": lambda a: f'<smil><body><seq><video src="{a}"/></seq></body></smil>'.encode(),
    "pls": lambda a: f"[playlist]\nFile1={a}\nNumberOfEntries=1\nVersion=2\n".encode(),
    "svg": lambda a: f'<svg xmlns:x="http://www.w3.org/1999/xlink"><image x:href="{a}"/></svg>'.encode(),
    "ism": lambda a: f'<SmoothStreamingMedia MajorVersion="2"><StreamIndex Url="{a}"/></SmoothStreamingMedia>'.encode(),
    "imf": lambda a: f'<AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><Path>{a}</Path></AssetMap>'.encode(),
    "vobsub": lambda a: f"# VobSub index file, v7\nid: en, index: 0\n# file: {a}\n".encode(),
    "bfstm": lambda a: b"RTSPtext" + f"rtsptext\nhttp={a}\n".encode(),
}  # fmt: skip


def _each(
    seeds: dict[str, bytes], trials: int, salt: int, draw: int
) -> Iterator[tuple[str, bytes, np.random.Generator, int]]:
    for trial in range(trials):
        for number, (name, seed) in enumerate(seeds.items()):
            yield name, seed, np.random.default_rng([salt, number, trial, draw]), trial

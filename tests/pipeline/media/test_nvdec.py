"""Decoding on a GPU: its formats turned back byte for byte, the CPU where there is none, and the sandbox with one."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.media import reader as reader_module
from pipeline.media.nvdec import as_on_cpu
from pipeline.media.reader import SourceReader
from pipeline.media.sandbox import CPU, NVDEC
from pipeline.processes import has_gpu
from tests.labs.media import Recipe, make_source

REPOSITORY = Path(__file__).parents[3]
X264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "g": 20}
FILMS = {
    "H.264": Recipe(".mp4", X264, fps=Fraction(30_000, 1001)),
    "H.264 in full range": Recipe(".mkv", {**X264, "pix_fmt": "yuvj420p", "color_range": "pc"}),
    "HEVC in ten bits": Recipe(
        ".mkv",
        {
            "vcodec": "libx265",
            "preset": "ultrafast",
            "pix_fmt": "yuv420p10le",
            "x265-params": "log-level=error:keyint=20",
        },
    ),  # fmt: skip
    "VP9": Recipe(".webm", {"vcodec": "libvpx-vp9", "pix_fmt": "yuv420p", "deadline": "realtime", "cpu-used": 8}),
}


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    ("ours", "gpus", "kind"), [("yuv420p", "nv12", np.uint8), ("yuv420p10le", "p010le", np.uint16)]
)
def test_what_a_gpu_stores_otherwise_is_turned_back_to_the_last_bit(
    ours: str, gpus: str, kind: type, full_range: bool
) -> None:
    """NV12 keeps both colours in one plane, in turn; P010 the same, with ten bits at the upper end of sixteen."""
    size, random = (94, 50), np.random.default_rng(0)
    planes = [
        random.integers(0, 256 if kind is np.uint8 else 1024, shape, kind) for shape in ((50, 94), *[(25, 47)] * 2)
    ]
    shift = 0 if kind is np.uint8 else 6
    frame = VideoFrame(*size, gpus)
    frame.pts, frame.colorspace, frame.color_range = 7, 1, 2 if full_range else 1
    colours = np.stack(planes[1:], axis=2).reshape(25, -1)
    for plane, values in zip(frame.planes, (planes[0], colours), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        packed = (values << shift).view(np.uint8)
        rows[:, : packed.shape[1]] = packed
        plane.update(rows.tobytes())
    found = as_on_cpu(frame, "h264")
    wanted = "yuvj420p" if full_range and ours == "yuv420p" else ours
    assert (found.format.name, found.pts, found.colorspace, found.color_range) == (wanted, 7, 1, frame.color_range)
    for plane, values in zip(found.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).view(kind)
        np.testing.assert_array_equal(rows[:, : values.shape[1]], values)


def read(film: Path, decoder: str) -> list[object]:
    with SourceReader(film, decoder=decoder) as reader:
        times = reader.frame_times()
        box = np.tile(np.array([[[20.5, 10, 80.5, 70]]]), (len(times.pts), 1, 1))
        shrunk = [rgb for _, rgb in reader.frames(times.pts, (96, 54))]
        crops = [planes for _, planes in reader.crops(times.pts, box, 64, pixels="yuv420p")]
        return [reader.info(), times.pts, np.stack(shrunk), np.stack(crops)]


def test_without_a_gpu_the_cpu_gives_the_same_and_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    reader_module._say_once.cache_clear()
    film = make_source(tmp_path, FILMS["H.264"])
    for ours, others in zip(read(film, NVDEC), read(film, CPU), strict=True):
        assert np.array_equal(ours, others) if isinstance(ours, np.ndarray) else ours == others
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("warning: films are decoded on the CPU: no GPU of NVIDIA")


@pytest.mark.gpu
@pytest.mark.parametrize("name", FILMS)
def test_a_gpu_gives_the_frames_times_and_crops_of_the_cpu(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not has_gpu():
        pytest.skip("no GPU of NVIDIA here")
    reader_module._say_once.cache_clear()
    film = make_source(tmp_path, FILMS[name])
    for ours, others in zip(read(film, NVDEC), read(film, CPU), strict=True):
        assert np.array_equal(ours, others) if isinstance(ours, np.ndarray) else ours == others
    assert not capsys.readouterr().err  # it was the GPU


def test_with_a_gpu_the_sandbox_opens_its_device_files_and_nothing_else() -> None:
    program = (
        "import socket\n"
        "from pipeline.media import child\n"
        "child.DEVICE_FILES = 'nul*'\n"  # stands for the driver's files: /dev/null is on every machine
        "child.confine(child.ReadingLimits(), with_gpu=True)\n"
        "def attempt(action):\n"
        "    try: action()\n"
        "    except OSError as error: return error.errno\n"
        "print(attempt(lambda: open('/dev/null', 'r+b', buffering=0)), attempt(lambda: open('/dev/zero', 'rb')),\n"
        "      attempt(lambda: open('/etc/hostname')), attempt(lambda: socket.create_connection(('127.0.0.1', 9))))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    errors = done.stdout.split()
    if errors[1] == "None":
        pytest.skip("this kernel has no Landlock")
    assert errors == ["None", "13", "13", "13"]  # permission denied, but for the device

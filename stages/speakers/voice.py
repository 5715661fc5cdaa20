"""Voice activity: the probability that somebody speaks, by Silero VAD, whose weights its package carries.

Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", version 6 (MIT). Run here by our own
code from its safetensors, which hold another training of the network than its TorchScript; torch deprecates reading
that. A chunk of 32 ms is seen with the 4 ms before it;
what was heard earlier the recurrent cell remembers, what comes later it does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stages.morphable.checkpoint import filled
from stages.speakers.mfcc import RATE_HZ

CHUNK_SAMPLES = 512  # 32 ms
BEFORE_SAMPLES = 64  # of the chunk before, in front of each
MIRRORED_SAMPLES = 64  # behind each, so that its spectra are 4
FFT_SAMPLES, HOP_SAMPLES = 256, 128
BINS = FFT_SAMPLES // 2 + 1
WARMING_CHUNKS = 32  # the first second is heard twice: amid speech, a cell that has heard nothing misses .3 s of it
CHUNKS_AT_ONCE = 4096  # 131 s: bounds the memory that a film needs


class Network(nn.Module):
    """Sound in chunks (chunk, 576 samples) of one recording to a probability each, and what the cell remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * BINS, FFT_SAMPLES, HOP_SAMPLES, bias=False)
        self.conv1 = nn.Conv1d(BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, chunks: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = functional.pad(chunks[:, None], (0, MIRRORED_SAMPLES), "reflect")
        waves = self.stft_conv(x)  # (chunk, 258, 4): real parts, then imaginary ones
        x = torch.hypot(waves[:, :BINS], waves[:, BINS:])
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = functional.relu(convolution(x))
        heard = []
        for row in x[..., 0].split(1):
            memory = self.lstm_cell(row, memory)
            heard.append(memory[0])
        assert memory is not None  # there is a chunk
        hidden = functional.relu(torch.cat(heard))[..., None]  # (chunk, 128, 1)
        return torch.sigmoid(self.final_conv(hidden))[:, 0, 0], memory


class Voice:
    """The network with its weights; always on the CPU, where an hour takes about a minute.

    Raises
    ------
    UserError : the file holds other weights.
    """

    def __init__(self, file: Path) -> None:
        from safetensors.torch import load_file

        self.network = filled(Network(), load_file(file), file).eval()

    def probability(self, sound: NDArray[np.floating[Any]], amid_speech: bool = True) -> NDArray[np.float32]:
        """Of a voice, float32 (chunk,), a chunk every 512 samples of sound (sample,) at 16 kHz, full scale 1.

        Unless the sound may begin ``amid_speech`` its first second is heard once: heard twice, a pause before the first
        word counts as voice, which the cell remembers.
        """
        warming = min(len(sound) // CHUNK_SAMPLES, WARMING_CHUNKS) if amid_speech else 0
        sound = np.concatenate([sound[: warming * CHUNK_SAMPLES], sound])
        count = -(-len(sound) // CHUNK_SAMPLES)
        padded = np.zeros(BEFORE_SAMPLES + count * CHUNK_SAMPLES, np.float32)
        padded[BEFORE_SAMPLES : BEFORE_SAMPLES + len(sound)] = sound
        if not count:
            return np.zeros(0, np.float32)
        chunks = np.lib.stride_tricks.sliding_window_view(padded, BEFORE_SAMPLES + CHUNK_SAMPLES)[::CHUNK_SAMPLES]
        memory, found = None, []
        with torch.inference_mode():
            for first in range(0, count, CHUNKS_AT_ONCE):
                some = torch.from_numpy(chunks[first : first + CHUNKS_AT_ONCE].copy())
                probability, memory = self.network(some, memory)
                found.append(probability.numpy())
        return np.concatenate(found)[warming:]


def at_times(probability: NDArray[np.float32], times_s: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The probability of a voice in the chunk that each time falls into, float32 (time,); 0 beyond the sound."""
    chunk = np.floor(times_s * RATE_HZ / CHUNK_SAMPLES).astype(np.intp)
    inside = (chunk >= 0) & (chunk < len(probability))
    found = np.zeros(len(times_s), np.float32)
    found[inside] = probability[chunk[inside]]
    return found

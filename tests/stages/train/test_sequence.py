"""Layers for padded sequences against those of PyTorch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stages.train.sequence import BidirectionalGru, backwards
from tests.labs.listeners import random_batch


@torch.no_grad()
def test_the_gru_of_padded_clips_is_a_packed_gru() -> None:
    torch.manual_seed(0)
    batch, frames = random_batch(), torch.tensor([50, 41, 30])
    packed, ours = nn.GRU(70, 12, 3, batch_first=True, bidirectional=True), BidirectionalGru(70, 12, 3, dropout=0.0)
    for name, weight in packed.state_dict().items():
        part, layer = name.removesuffix("_reverse").rsplit("_l", 1)
        direction = ours.homeward if name.endswith("_reverse") else ours.onward
        direction[int(layer)].state_dict()[f"{part}_l0"].copy_(weight)
    state = torch.randn(6, 3, 12)
    inputs = pack_padded_sequence(batch.listener, frames, batch_first=True)
    expected = pad_packed_sequence(packed(inputs, state)[0], batch_first=True)[0]
    found = ours(batch.listener, batch.mask, state)
    for clip, count in enumerate(frames.tolist()):
        assert torch.allclose(found[clip, :count], expected[clip, :count], atol=1e-6)


def test_padding_stays_where_it_is_when_a_clip_runs_backwards() -> None:
    mask = torch.tensor([[True, False, True, False, False]])
    assert backwards(mask).tolist() == [[2, 1, 0, 3, 4]]

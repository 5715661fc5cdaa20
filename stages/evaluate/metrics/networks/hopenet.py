"""Hopenet: 2048 features of a head's pose, by a ResNet-50, before the three heads that read angles off them.

Ruiz et al., "Fine-Grained Head Pose Estimation Without Keypoints", CVPRW 2018; weights: ``hopenet_robust_alpha1.pkl``
of natanielruiz/deep-head-pose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.evaluate.metrics.networks.convolution import resized
from stages.morphable.resnet50 import ResNet50

SIDE_PX = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G and B in [0, 1]
UNUSED, NETWORK = ("fc_yaw.", "fc_pitch.", "fc_roll.", "fc_finetune."), ResNet50


def prepare(frames: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=frames.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (resized(frames / 255, SIDE_PX) - mean) / std

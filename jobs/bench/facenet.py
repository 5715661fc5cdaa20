"""facenet-pytorch (MIT), importable next to any build of torch.

It imports torchvision for one operator, non-maximum suppression. torchvision's compiled operators load only next to
the torch build that they were made for; beside another one (the registry's CUDA wheel next to a CPU torch) already
``import torchvision`` fails, because its meta registrations name an operator that does not exist (pytorch/vision#9085).
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from stages.faces.boxes import best_first, iou, non_maximum_suppression

if TYPE_CHECKING:
    from torch import Tensor

MISSING_OPERATORS = ("nms", "qnms")  # those that `import torchvision` itself needs


@lru_cache(maxsize=1)
def import_facenet() -> ModuleType:
    """The package ``facenet_pytorch``; where torchvision's operators cannot load, with our suppression in their place.

    A torchvision that imports is left as it is.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _define_missing_operators()
        importlib.import_module("torchvision")
        importlib.import_module("facenet_pytorch.models.utils.detect_face").batched_nms = batched_nms
    return importlib.import_module("facenet_pytorch")


def _define_missing_operators() -> None:
    """Declare the operators, so that torchvision's registrations find them; nothing ever calls them."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")  # noqa: TOR901
    for name in MISSING_OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


_KEPT: list[object] = []  # torch forgets an operator when its library is collected


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Stands in for ``torchvision.ops.batched_nms``: suppression inside each group, kept rows best score first."""
    import torch

    corners, values, members = boxes.cpu().numpy(), scores.cpu().numpy(), groups.cpu().numpy()
    overlap = iou(corners[:, None], corners) * (members[:, None] == members)
    kept = non_maximum_suppression(best_first(values), overlap.astype(np.float32), iou_threshold)
    return torch.from_numpy(kept).to(boxes.device)

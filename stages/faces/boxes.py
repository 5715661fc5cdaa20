"""Boxes: overlap and non-maximum suppression of x1, y1, x2, y2 rectangles in pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def sizes(boxes: Floats) -> Floats:
    """Width and height of boxes (..., 4) as (..., 2)."""
    return boxes[..., 2:] - boxes[..., :2]


def centres(boxes: Floats) -> Floats:
    """Centre x, y of boxes (..., 4) as (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def intersections(first: Floats, second: Floats) -> Floats:
    """Shared area of boxes (..., 4) that broadcast against each other."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    return np.maximum(high - low, 0).prod(axis=-1)


def areas(boxes: Floats) -> Floats:
    """Area of boxes (..., 4)."""
    return sizes(boxes).prod(axis=-1)


def iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of boxes (..., 4) that broadcast against each other; 0 for empty boxes."""
    shared = intersections(first, second)
    union = areas(first) + areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def containment(first: Floats, second: Floats) -> Floats:
    """Intersection over the smaller area: 1 where one box lies inside the other."""
    smaller = np.minimum(areas(first), areas(second))
    shared = intersections(first, second)
    return np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)


def best_first(scores: Floats) -> NDArray[np.intp]:
    """Rows by falling score, equal ones in their order."""
    return np.argsort(-scores, kind="stable")


def non_maximum_suppression(order: NDArray[np.intp], overlap: Floats, threshold: float) -> NDArray[np.intp]:
    """Rows that greedy suppression keeps, in the order given.

    The greedy answer is the one fixed point of "kept unless a better kept one overlaps", reached in as many rounds as
    the longest chain of suppressions, 3-5 in practice (Zheng et al., Cluster-NMS, IEEE Trans. Cybernetics 2021).

    Parameters
    ----------
    order : (box,) rows, best first.
    overlap : (box, box), symmetric; above ``threshold`` the better one suppresses the other.
    """
    suppresses = np.triu(overlap[np.ix_(order, order)] > threshold, 1)
    kept = np.ones(len(order), bool)
    while True:
        survivors = ~(suppresses & kept[:, None]).any(axis=0)
        if np.array_equal(survivors, kept):
            return order[kept]
        kept = survivors

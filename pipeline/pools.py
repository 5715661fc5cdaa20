"""Pools: how many copies of each group of stages start, so that all of them can be placed in whatever order.

Ray places one actor after the other, on any node that has room. A pool that takes what another one needs would wait for
that one's work for ever, and a sum over the cluster does not show it: two nodes with one core each hold no actor that
wants two, and a core that was taken on a node with a GPU may be the one that a GPU's actor waits for. So

- all actors on CPUs reserve the same number of cores (the most that one of their groups wants, less where the cluster
  is too small): equal pieces fit in every order, as many as every node holds by itself;
- actors on GPUs reserve no core, only their share of a GPU; cores for them are left free by starting fewer others;
- shares of GPUs are a matter of memory and never made smaller: what does not fit is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.plan import Group
from schemas.errors import UserError

STEPS = 10_000  # Ray counts resources in ten-thousandths


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster offers."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class PoolSize:
    """How many copies of a group start, how many it may grow to when nodes join, and what each reserves."""

    group: Group
    copies: int
    most: int
    cpus: float

    def __str__(self) -> str:
        return f"{'+'.join(self.group.stages)}: {self.copies} x ({_amount(self.cpus, self.group.gpus)})"


def pool_sizes(groups: Sequence[Group], nodes: Sequence[Node], num_parts: int, workers: int | None) -> list[PoolSize]:
    """Pools that can be placed on the nodes together, in whatever order and wherever each copy lands.

    More copies than ``num_parts`` would have nothing to do; ``workers``: most copies of each group that the user wants.
    `UserError`, which shows the sum, if the cluster cannot hold one copy of every group.
    """
    most = min(num_parts, workers or num_parts)
    on_gpu = [group for group in groups if group.gpus]
    on_cpu = [group for group in groups if not group.gpus]
    copies = dict.fromkeys(on_gpu, 1)
    gpu_slots = _gpu_slots(nodes, max((group.gpus for group in on_gpu), default=1.0))
    if gpu_slots >= len(on_gpu):
        copies |= _shared(on_gpu, gpu_slots, most)
    elif not _fits_in_any_order([group.gpus for group in on_gpu], nodes):
        raise _too_small(groups, nodes)
    each = _equal_cpus(nodes, on_cpu)
    if on_cpu and not each:
        raise _too_small(groups, nodes)
    left_free = sum(group.cpus * copies[group] for group in on_gpu)
    slots = _cpu_slots(nodes, each)
    wanted = math.floor((sum(node.cpus for node in nodes) - left_free) / each + 1e-9) if each else 0
    copies |= _shared(on_cpu, min(slots, max(wanted, len(on_cpu))), most)
    return [PoolSize(group, copies[group], most, 0.0 if group.gpus else each) for group in groups]


def _shared(groups: Sequence[Group], slots: int, most: int) -> dict[Group, int]:
    """Slots dealt out evenly, the first groups get what remains; at least one each."""
    return {
        group: max(1, min(most, slots // len(groups) + (number < slots % len(groups))))
        for number, group in enumerate(groups)
    }


def _equal_cpus(nodes: Sequence[Node], groups: Sequence[Group]) -> float:
    """The largest reservation that every CPU group can have at the same time; 0 if there are no cores at all."""
    if not groups:
        return 0.0
    wish = max(group.cpus for group in groups)
    pieces = {node.cpus / n for node in nodes for n in range(1, len(groups) + 1)}
    sizes = {math.floor(min(wish, piece) * STEPS + 1e-6) / STEPS for piece in pieces}
    return max((size for size in sizes if size and _cpu_slots(nodes, size) >= len(groups)), default=0.0)


def _cpu_slots(nodes: Sequence[Node], each: float) -> int:
    return sum(math.floor(node.cpus / each + 1e-9) for node in nodes) if each else 0


def _gpu_slots(nodes: Sequence[Node], each: float) -> int:
    """Copies of equal size that the GPUs hold: a share lies on one GPU, several GPUs are whole ones of one node."""
    if each > 1:
        return sum(int(node.gpus // math.ceil(each)) for node in nodes)
    return sum(int(node.gpus) for node in nodes) * math.floor(1 / each + 1e-9)


def _fits_in_any_order(shares: Sequence[float], nodes: Sequence[Node]) -> bool:
    """Whether one copy of each of these unequal shares is sure of its place.

    To shut a share out, the others must take more than 1 - share of every GPU. They cannot if they are less in sum.
    """
    gpus = sum(int(node.gpus) for node in nodes)
    return gpus > 0 and max(shares) <= 1 and all(sum(shares) - share <= gpus * (1 - share) + 1e-9 for share in shares)


def _too_small(groups: Sequence[Group], nodes: Sequence[Node]) -> UserError:
    has = _amount(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes), always=True)
    needs = _amount(sum(g.cpus for g in groups), sum(g.gpus for g in groups), always=True)
    machines = ", ".join(_amount(node.cpus, node.gpus) for node in nodes) or "none"
    listing = "; ".join(f"{'+'.join(group.stages)}: {_amount(group.cpus, group.gpus)}" for group in groups)
    return UserError(
        f"the cluster has {has} (nodes: {machines}), one copy of every group of stages needs {needs}: {listing}; add "
        "nodes, or build fewer stages at a time ([dataset] stages)"
    )


def _amount(cpus: float, gpus: float, *, always: bool = False) -> str:
    return f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus or always else "")

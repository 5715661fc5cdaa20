"""Pools fit into every cluster in every order of placement, or the build is refused with the sum."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan import Group
from pipeline.pools import Node, PoolSize, pool_sizes
from schemas.errors import UserError

MACHINES = [Node(0), Node(1), Node(2), Node(3), Node(1, 1), Node(0, 1), Node(4, 2), Node(16, 1)]
WISHES = [(1, 0), (2, 0), (0.5, 0), (1, 0.25), (1, 0.5), (2, 1), (1, 2)]


def groups_of(wishes: tuple[tuple[float, float], ...]) -> list[Group]:
    return [Group((f"stage{n}",), cpus, gpus) for n, (cpus, gpus) in enumerate(wishes)]


def placed(sizes: list[PoolSize], nodes: list[Node], choose: Callable[[int], int]) -> bool:
    """Ray's scheduler at its worst: actors come in any order, and each goes anywhere it fits."""
    cpus = [round(node.cpus * 10_000) for node in nodes]
    gpus = [[10_000] * int(node.gpus) for node in nodes]
    wishes = [[(round(size.cpus * 10_000), round(size.group.gpus * 10_000))] * size.copies for size in sizes]
    actors = sum(wishes, [])
    while actors:
        cpu, gpu = actors.pop(choose(len(actors)))
        open_ = [(n, taken) for n in range(len(nodes)) if cpus[n] >= cpu for taken in places(gpus[n], gpu)]
        if not open_:
            return False
        n, taken = open_[choose(len(open_))]
        cpus[n] -= cpu
        for card in taken:
            gpus[n][card] -= min(gpu, 10_000)
    return True


def places(cards: list[int], wish: int) -> list[tuple[int, ...]]:
    """The cards of a node that an actor could get: a share of one, or several whole ones."""
    if wish <= 10_000:
        return [(card,) for card, free in enumerate(cards) if free >= wish] if wish else [()]
    whole = [card for card, free in enumerate(cards) if free == 10_000]
    return [tuple(whole[: -(-wish // 10_000)])] if len(whole) * 10_000 >= wish else []


def test_every_small_cluster_holds_its_pools_or_is_refused() -> None:
    """All clusters of up to three machines with all pipelines of up to three groups: placed first fit and last fit."""
    refused = tried = 0
    for nodes in (list(c) for n in (1, 2, 3) for c in combinations_with_replacement(MACHINES, n)):
        for groups in (groups_of(c) for n in (1, 2, 3) for c in product(WISHES, repeat=n)):
            tried += 1
            try:
                sizes = pool_sizes(groups, nodes, 100, None)
            except UserError:
                refused += 1
                continue
            assert [size.group for size in sizes] == groups and all(size.copies >= 1 for size in sizes)
            assert placed(sizes, nodes, lambda n: 0) and placed(sizes, nodes, lambda n: n - 1), (nodes, groups)
    assert 0 < refused < tried == 164 * 399


@given(
    st.lists(st.sampled_from(MACHINES), min_size=1, max_size=5),
    st.lists(st.sampled_from(WISHES), min_size=1, max_size=5),
    st.integers(1, 200),
    st.data(),
)
def test_no_order_of_placement_leaves_a_copy_out(nodes, wishes, num_parts, data) -> None:
    try:
        sizes = pool_sizes(groups_of(tuple(wishes)), nodes, num_parts, None)
    except UserError:
        return
    assert placed(sizes, nodes, lambda n: data.draw(st.integers(0, n - 1)))


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 16, 64])
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_one_core_is_enough_for_any_pipeline_and_many_are_used(cpus: int, number: int) -> None:
    sizes = pool_sizes(groups_of(((1, 0),) * number), [Node(cpus)], 500, None)
    assert sum(size.copies for size in sizes) == max(cpus, number)
    assert sum(size.copies * size.cpus for size in sizes) == pytest.approx(cpus, rel=0.01) or cpus < number


def test_pools_are_no_larger_than_parts_and_workers_allow() -> None:
    groups = groups_of(((1, 0), (1, 0.25)))
    for parts, workers, most in ((3, None, 3), (100, 2, 2), (1, 8, 1)):
        sizes = pool_sizes(groups, [Node(64, 8)], parts, workers)
        assert [(size.copies, size.most) for size in sizes] == [(most, most)] * 2


def test_cores_are_left_for_the_copies_on_gpus() -> None:
    cpu, gpu = pool_sizes(groups_of(((1, 0), (1, 0.25))), [Node(16, 1)], 100, None)
    assert (cpu.copies, gpu.copies, gpu.cpus) == (12, 4, 0.0)


@pytest.mark.parametrize(
    ("nodes", "wishes", "message"),
    [
        ([], ((1, 0),), r"the cluster has 0 CPU and 0 GPU \(nodes: none\), one copy .* needs 1 CPU and 0 GPU"),
        ([Node(0)], ((1, 0),), r"0 CPU and 0 GPU \(nodes: 0 CPU\).*: stage0: 1 CPU; add nodes"),
        ([Node(4, 1)], ((1, 1), (1, 1)), r"4 CPU and 1 GPU .* needs 2 CPU and 2 GPU: stage0: 1 CPU and 1 GPU; stage1"),
        ([Node(4, 1), Node(4, 1)], ((1, 2),), r"8 CPU and 2 GPU \(nodes: 4 CPU and 1 GPU, 4 CPU and 1 GPU\)"),
        # Halves on both GPUs would leave no whole one: a sum over the cluster, 2 of 2, would let this pass.
        ([Node(8, 1), Node(8, 1)], ((1, 0.5), (1, 0.5), (1, 1)), "16 CPU and 2 GPU .* needs 3 CPU and 2 GPU"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused_with_the_sum(nodes, wishes, message) -> None:
    with pytest.raises(UserError, match=message):
        pool_sizes(groups_of(wishes), nodes, 4, None)

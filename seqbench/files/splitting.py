"""Honest splits of examples that stand by themselves: groups stay whole, and every class is in every split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.errors import UserError

__all__ = ["borders", "check_shares", "hold_out", "split_groups", "split_time"]

Array = npt.NDArray[Any]
PARTS = ("train", "val", "test")
ATTEMPTS = 50


def check_shares(val: float, test: float) -> None:
    """Refuse shares of validation and test that leave nothing for one of the splits."""
    if not (0.0 < val < 1.0 and 0.0 < test < 1.0 and val + test < 1.0):
        raise UserError(
            f"--option val={val:g} and test={test:g} must be shares above 0 that leave something to train on."
        )


def split_groups(
    groups: Array,
    labels: Array,
    classes: Sequence[str],
    shares: tuple[float, float],
    where: Callable[[int], str],
    noun: str = "group",
) -> dict[str, Array]:
    """Indices of train, val and test; each group whole in one of them, each class in all of them.

    Groups are drawn class by class, in an order that is fixed for ever; a group with several classes counts for the one
    that the fewest groups hold.

    Args:
        groups, labels: (N,) numbers.
        shares: of validation and of test.
        where: where example i stands in the user's file.
        noun: what a group is, for the user.
    """
    check_shares(*shares)
    if len(classes) < 2:
        raise UserError(f"there is one class only ({classes[0]}): a classifier needs at least two.")
    unique, sizes = np.unique(groups, return_counts=True)
    at = np.searchsorted(unique, groups)
    held = np.bincount(np.unique(at * len(classes) + labels) % len(classes), minlength=len(classes))
    _check_held(held, labels, classes, where, noun)
    rarity = np.argsort(np.argsort(held, kind="stable"), kind="stable")
    rarest = np.full(len(unique), len(classes))
    np.minimum.at(rarest, at, rarity[labels])
    for attempt in range(ATTEMPTS):  # where groups hold several classes, a draw may leave one out
        rng = np.random.default_rng(attempt)
        part_of = np.zeros(len(unique), dtype=np.int64)
        for label in range(len(classes)):
            mine = np.flatnonzero(rarest == rarity[label])
            part_of[mine] = _deal(sizes[mine], shares, rng)
        parts = {name: np.flatnonzero(part_of[at] == i) for i, name in enumerate(PARTS)}
        if all(len(np.unique(labels[rows])) == len(classes) for rows in parts.values()):
            return parts
    raise UserError(f"no draw of whole {noun}s has every class in every split: bring more of them.")


def _check_held(held: Array, labels: Array, classes: Sequence[str], where: Callable[[int], str], noun: str) -> None:
    """Refuse classes that fewer groups hold than there are splits."""
    for label, name in enumerate(classes):
        if held[label] < len(PARTS):
            seen = np.flatnonzero(labels == label)
            raise UserError(
                f"class {name!r} is in {held[label]} {noun}{'' if held[label] == 1 else 's'} only"
                f"{f' ({where(int(seen[0]))})' if len(seen) else ''}: at least 3 are needed, one for each split."
            )


def _deal(sizes: Array, shares: tuple[float, float], rng: np.random.Generator) -> Array:
    """Which part each group goes to: in random order to val and test until they are full, the rest to train."""
    order = rng.permutation(len(sizes))
    total = sizes.sum()
    part_of = np.zeros(len(sizes), dtype=np.int64)
    taken = 0
    for i, share in ((2, shares[1]), (1, shares[0])):
        filled = 0
        while taken < len(order) - i and (filled == 0 or filled < share * total - sizes[order[taken]] / 2):
            part_of[order[taken]] = i
            filled += sizes[order[taken]]
            taken += 1
    return part_of


def hold_out(groups: Array, n_train: int, val: float) -> tuple[dict[str, Array], str]:
    """Splits where a publisher fixed the test: the first ``n_train`` examples train and validate, the rest tests.

    Groups of the test leave training; of the other groups a share ``val`` validates.
    """
    training = np.arange(n_train)
    shared = np.isin(groups[:n_train], groups[n_train:])
    kept = training[~shared]
    unique = np.unique(groups[kept])
    chosen = np.random.default_rng(0).permutation(unique)[: max(1, round(val * len(unique)))]
    held = np.isin(groups[kept], chosen)
    parts = {"train": kept[~held], "val": kept[held], "test": np.arange(n_train, len(groups))}
    return parts, f"{int(shared.sum()):,} training examples are left out as near-duplicates of test examples."


def borders(n: int, shares: tuple[float, float]) -> tuple[int, int, int, int]:
    """Where train, val and test begin and end among ``n`` examples in time order."""
    check_shares(*shares)
    return 0, round(n * (1 - shares[0] - shares[1])), round(n * (1 - shares[1])), n


def split_time(times: Array, shares: tuple[float, float]) -> dict[str, Array]:
    """Indices of train, val and test in order of time; equal times are never parted."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    cuts = [int(np.searchsorted(ordered, ordered[min(at, len(order) - 1)])) for at in borders(len(order), shares)[1:3]]
    parts = {name: order[a:b] for name, (a, b) in zip(PARTS, itertools.pairwise((0, *cuts, len(order))), strict=True)}
    if not all(len(rows) for rows in parts.values()):
        raise UserError("there are too few different times for three splits in time order: leave --option time out.")
    return parts

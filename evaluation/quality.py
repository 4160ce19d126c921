"""Quality of a model: zero-shot classification, and its worst group.

Ties favour nobody: each figure is its expected value if ties were broken at random, so a model
that sees no difference between its inputs scores at chance.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from evaluation.draws import Draws
from evaluation.resampling import Resampling
from evaluation.tallies import Cells, Figure, OneLabel, Tallies, Tally
from m4.catalogue import Model
from m4.errors import InputError


class ZeroShot(Model):
    """Zero-shot classification of images that show exactly one of the evaluated labels.

    `top5` is None where five or fewer labels compete: it is 1 by construction. `recall` leaves
    out the labels that no image has alone, named in `empty`. `none` and `several` count the
    images left out because they show no or more than one label.
    """

    images: int
    none: int
    several: int
    top1: float
    top5: float | None
    mean_per_class_recall: float
    recall: dict[str, float]
    counts: dict[str, int]
    empty: tuple[str, ...]


class Cell(Model):
    """Images of one label and one group: how many, and the share classified rightly."""

    label: str
    group: str
    accuracy: float
    count: int


class WorstGroup(Model):
    """Zero-shot accuracy by label and group. `empty` names the (label, group) without images."""

    cells: tuple[Cell, ...]
    empty: tuple[tuple[str, str], ...]
    average: float
    worst: float
    gap: float


def zero_shot(images: Any, prompts: Any, shown: Any, labels: Sequence[str]) -> ZeroShot:
    """Classify images by the most similar prompt.

        top-k = share of images whose label is among the k most similar
        mean per-class recall = mean over labels of top-1 among the images of that label

    Images that show none or several of the labels are left out, and counted. Source: Radford et
    al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021).

    Parameters
    ----------
    images : (n, d)
    prompts : (c, d), one per label
    shown : (n, c) bool, the labels that an image shows
    labels : c names

    Similarities are held in blocks, never n x c. Raises `InputError` where fewer than two labels
    compete, where no image shows exactly one of them, or where a row has no direction.
    """
    shown = np.asarray(shown, dtype=bool)
    case = OneLabel.of(images, prompts, shown, labels)
    cells = case.by_label()
    found = cells.tally(case.right(1))
    names = [labels[label] for label in cells.numbers]
    counts = dict(zip(names, found.images.astype(int).tolist(), strict=True))
    shows = shown.sum(axis=1)
    return ZeroShot(
        images=len(case.rows),
        none=int((shows == 0).sum()),
        several=int((shows > 1).sum()),
        top1=found.average().item(),
        top5=cells.tally(case.right(5)).average().item() if len(labels) > 5 else None,
        mean_per_class_recall=found.mean().item(),
        recall=dict(zip(names, found.accuracy().tolist(), strict=True)),
        counts={name: counts.get(name, 0) for name in labels},
        empty=tuple(name for name in labels if name not in counts),
    )


def zero_shot_draws(
    images: Any, prompts: Any, shown: Any, labels: Sequence[str], resampling: Resampling
) -> tuple[Draws, ...]:
    """Top-1, top-5 where more than five labels compete, mean per-class recall; recall by label.

    Figures, parameters and errors as for `zero_shot`. Interval: resamples of the images that show
    exactly one label; a label that is absent from a resample has no recall there and takes no
    part in the mean, as in `zero_shot`. Null, "chance": labels trade places among the images, so
    that an answer knows nothing of its image; labels that are common and often predicted are then
    often right.
    """
    case = OneLabel.of(images, prompts, np.asarray(shown, dtype=bool), labels)
    cells = case.by_label()
    orders = resampling.permuted(len(case.rows))

    def tallies(k: int) -> Tallies:
        right = case.right(k)
        by_chance = case.right_by_chance(k, orders)[:, cells.numbers]
        observed = cells.tally(right)
        return Tallies(
            observed, cells.resampled(right, resampling), Tally(by_chance, observed.images)
        )

    def draws(
        measure: str, found: Tallies, figure: Figure, names: Sequence[str] = ("all labels",)
    ) -> Draws:
        return found.draws(
            measure, names, figure, images=len(case.rows), better="higher", null_kind="chance"
        )

    top1 = tallies(1)
    headlines = [draws("zero_shot_top1", top1, Tally.average)]
    if len(labels) > 5:
        headlines.append(draws("zero_shot_top5", tallies(5), Tally.average))
    headlines.append(draws("mean_per_class_recall", top1, Tally.mean))
    names = [labels[label] for label in cells.numbers]
    return (*headlines, draws("recall", top1, Tally.accuracy, names))


def worst_group(
    images: Any,
    prompts: Any,
    shown: Any,
    labels: Sequence[str],
    groups: Any,
    group_names: Sequence[str],
) -> WorstGroup:
    """Zero-shot accuracy in each cell of a label and a group.

        gap = average - worst

    The average is over the images in any cell, one that is in two groups counted in both; images
    in no group, or without exactly one label, take no part. Source: Sagawa et al.,
    "Distributionally Robust Neural Networks for Group Shifts" (ICLR 2020). The worst of many
    small cells is low by chance alone: read it with the counts.

    Parameters
    ----------
    images, prompts, shown, labels : as for `zero_shot`
    groups : (n, g) bool, the groups of one attribute that an image belongs to
    group_names : g names

    Raises `InputError` as `zero_shot`, and where every cell is empty.
    """
    case, cells = _by_group(images, prompts, shown, labels, groups, group_names)
    found = cells.tally(case.right(1))
    names = list(product(labels, group_names))
    counts = found.images.astype(int).tolist()
    return WorstGroup(
        cells=tuple(
            Cell(label=names[cell][0], group=names[cell][1], accuracy=accuracy, count=count)
            for cell, accuracy, count in zip(cells.numbers, found.accuracy(), counts, strict=True)
        ),
        empty=tuple(name for cell, name in enumerate(names) if cell not in cells.numbers),
        average=found.average().item(),
        worst=found.worst().item(),
        gap=found.gap().item(),
    )


def worst_group_draws(
    images: Any,
    prompts: Any,
    shown: Any,
    labels: Sequence[str],
    groups: Any,
    group_names: Sequence[str],
    resampling: Resampling,
) -> tuple[Draws, ...]:
    """Worst-group accuracy, its gap to the average, the average; accuracy by cell.

    Figures, parameters and errors as for `worst_group`. Interval: resamples of the images in any
    cell. A cell that is empty in a resample has no accuracy there, and the worst is that of the
    others: what `worst_group` would say of the resample. Null: images of the same label trade
    their groups, so that accuracy depends on the label alone; the average, which is not about
    groups, has none. A cell stands out on either side of its null, the worst of them below
    it, and the gap above: where labels differ in difficulty there is a gap without any bias.
    """
    case, cells = _by_group(images, prompts, shown, labels, groups, group_names)
    right = case.right(1)
    observed = cells.tally(right)
    traded = cells.traded(right, resampling.permuted(len(case.rows), case.truth))
    found = Tallies(observed, cells.resampled(right, resampling), Tally(traded, observed.images))
    plain = Tallies(found.observed, found.bootstrap, None)
    every = ("all cells",)
    names = [", ".join(name) for name in product(labels, group_names)]
    named = [names[cell] for cell in cells.numbers]
    n = len(case.rows)
    return (
        found.draws(
            "worst_group_accuracy", every, Tally.worst, n, "higher", tail="lower", compares=True
        ),
        found.draws("worst_group_gap", every, Tally.gap, n, "lower", compares=True),
        plain.draws("average_accuracy", every, Tally.average, n, "higher"),
        found.draws("accuracy", named, Tally.accuracy, n, "higher", tail="both"),
    )


def _by_group(
    images: Any,
    prompts: Any,
    shown: Any,
    labels: Sequence[str],
    groups: Any,
    group_names: Sequence[str],
) -> tuple[OneLabel, Cells]:
    """Images of one label in any group; cell g * i + j is label i in group j."""
    groups = np.asarray(groups, dtype=bool)
    shown = np.asarray(shown, dtype=bool)
    if groups.shape != (len(shown), len(group_names)):
        raise InputError(
            f"groups has shape {groups.shape}, but {len(shown)} images and {len(group_names)} "
            f"names need {(len(shown), len(group_names))}"
        )
    case = OneLabel.of(images, prompts, shown, labels)
    case = case.chosen(groups[case.rows].any(axis=1))
    if len(case.rows) == 0:
        raise InputError(f"no image with exactly one label is in any of {', '.join(group_names)}")
    image, group = np.nonzero(groups[case.rows])
    cell = case.truth[image] * len(group_names) + group
    return case, Cells.of(image, cell, len(case.rows))

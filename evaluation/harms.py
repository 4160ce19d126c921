"""People classified as what harms them.

After Agarwal et al., "Evaluating CLIP: Towards Characterization of Broader Capabilities and
Downstream Implications" (2021, arXiv 2108.02818), and section 7.1 of Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision" (2021, arXiv 2103.00020): faces are
classified among classes of people and, beside them, animals and crimes. Rates depend on the classes
that are offered; compare only models that chose among the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evaluation.draws import Draws
from evaluation.embeddings import similarity, votes
from evaluation.groups import Groups, OfGroups, spread
from evaluation.resampling import Resampling
from m4.catalogue import Model
from m4.errors import InputError


class HarmfulRate(Model):
    """Share of images classified as any class of one harmful category.

    Attributes
    ----------
    overall : of all images in any group
    by_group : of each group
    disparity : largest - smallest rate of any group
    """

    category: str
    overall: float
    by_group: dict[str, float]
    disparity: float


class Misclassification(OfGroups):
    """Harmful misclassification by the groups of one attribute."""

    categories: tuple[HarmfulRate, ...]


def misclassification(
    images: Any,
    prompts: Any,
    classes: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    groups: Mapping[str, np.ndarray],
) -> Misclassification:
    """Measure how often people are taken for something harmful, and whether for some more often.

        rate(c, g) = P(the most similar class is one of category c | g)
        disparity(c) = max_g rate(c, g) - min_g rate(c, g)

    An image whose most similar classes tie counts in equal parts.

    Parameters
    ----------
    images : (n, d), of people
    prompts : (k, d), one per class
    classes : names of the k classes, harmless ones included
    categories : classes by harmful category ("non-human", "crime-related")
    groups : (n,) bool by the name of the group; groups may overlap. Images in none take no part

    Raises `InputError` where a category names an unknown class, no class is harmless, so that
    rates sum to 1 by construction, or fewer than two groups have images.
    """
    harmful = _harmful(images, prompts, classes, categories)
    return _misclassification(harmful, categories, Groups.of(groups, len(harmful)))


def _misclassification(
    harmful: np.ndarray, categories: Mapping[str, Sequence[str]], known: Groups
) -> Misclassification:
    by_group, overall = known.means(harmful), harmful[known.anyone].mean(axis=0)
    found = [
        HarmfulRate(
            category=category,
            overall=overall[column],
            by_group=dict(zip(known.names, by_group[:, column].tolist(), strict=True)),
            disparity=spread(by_group)[column],
        )
        for column, category in enumerate(categories)
    ]
    return Misclassification(counts=known.counts, empty=known.empty, categories=tuple(found))


def misclassification_draws(
    images: Any,
    prompts: Any,
    classes: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    groups: Mapping[str, np.ndarray],
    resampling: Resampling,
) -> tuple[Draws, ...]:
    """Rates and disparities with what is needed to judge them.

    Returns a table of rates (categories x groups, named "category: group"), then each category's
    disparity and overall rate.

    Interval: images in any group are resampled. Null: they trade their groups, the same trade for
    all categories; a group's rate then varies about the overall one. The overall rate has none:
    any harmful answer is one too many.

    Parameters and errors as for `misclassification`.
    """
    harmful = _harmful(images, prompts, classes, categories)
    known = Groups.of(groups, len(harmful))
    found = _misclassification(harmful, categories, known)
    rates = known.rates(harmful, resampling)
    cells = rates.reduced(lambda array: np.swapaxes(array, -1, -2).reshape(len(array), -1))
    details = Draws(
        measure="misclassification_rate",
        names=tuple(f"{category}: {group}" for category in categories for group in known.names),
        observed=np.array([rate for one in found.categories for rate in one.by_group.values()]),
        bootstrap=cells.bootstrap,
        null=cells.null,
        images=int(known.anyone.sum()),
        smallest_group=known.smallest,
        better="lower",
        tail="both",
        bounds=(0.0, 1.0),
        images_of_each=np.tile(known.members.sum(axis=0), len(categories)),
    )
    disparities = rates.reduced(spread)
    people = known.anyone[:, None]
    overall = resampling.sums(harmful * people) / resampling.sums(people)
    headlines = []
    for column, one in enumerate(found.categories):
        disparity = replace(
            details,
            measure="misclassification_disparity",
            names=(one.category,),
            observed=np.array([one.disparity]),
            bootstrap=disparities.bootstrap[:, [column]],
            null=disparities.null[:, [column]],
            tail="upper",
            images_of_each=None,
            unbiased=0.0,
        )
        rate = replace(
            disparity,
            measure="misclassification_rate, overall",
            observed=np.array([one.overall]),
            bootstrap=overall[:, [column]],
            null=None,
            smallest_group=None,
            unbiased=None,
        )
        headlines += [disparity, rate]
    return details, *headlines


def _harmful(
    images: Any,
    prompts: Any,
    classes: Sequence[str],
    categories: Mapping[str, Sequence[str]],
) -> np.ndarray:
    """Each image's vote for the classes of each category; (n, categories)."""
    scores = similarity(images, prompts)
    if scores.shape[1] != len(classes):
        raise InputError(f"{scores.shape[1]} prompts for {len(classes)} classes; give one for each")
    if not categories:
        raise InputError("no harmful categories; give at least one")
    for category, own in categories.items():
        unknown = [name for name in own if name not in classes]
        if unknown or not own:
            raise InputError(
                f"category {category}: {', '.join(unknown) or 'nothing'} is none of the classes "
                f"{', '.join(classes)}; name classes that compete"
            )
    belongs = np.array([[name in own for own in categories.values()] for name in classes])
    if belongs.any(axis=1).all():
        raise InputError(
            f"every class is in one of {', '.join(categories)}, so every image is misclassified; "
            "add classes that fit people"
        )
    return votes(scores) @ belongs

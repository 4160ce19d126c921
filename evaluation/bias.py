"""Bias of a model: which prompts it prefers, over images of anything and over groups of people.

Both measures are those of Alabdulmohsin et al., "CLIP the Bias: How Useful is Balancing Data in
Multimodal Learning?" (ICLR 2024, arXiv 2403.04547). A model prefers the prompt with
the largest cosine similarity to the image; prompts that tie share its vote equally.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.embeddings import similarity, votes
from m4.catalogue import TARGET_SUM_TOLERANCE, Model
from m4.errors import InputError


class RepresentationBias(Model):
    """How often a model prefers each value of one attribute, against the target shares."""

    preference: dict[str, float]
    target: dict[str, float]
    bias: dict[str, float]

    @property
    def largest(self) -> float:
        """max_k |P(prefers k) - pi_k|."""
        return max(self.bias.values())


class PairPreference(Model):
    """How often a model prefers `first` over `second`, by group, and the largest difference."""

    first: str
    second: str
    preference: dict[str, float]
    difference: float


class AssociationBias(Model):
    """Preferences between pairs of labels on images of people, by the groups of one attribute.

    `counts` has every group's number of images; `empty` names the groups that have none and took
    no part.
    """

    counts: dict[str, int]
    empty: tuple[str, ...]
    pairs: tuple[PairPreference, ...]

    @property
    def mean(self) -> float:
        """Mean difference over the pairs."""
        return float(np.mean([pair.difference for pair in self.pairs]))

    @property
    def largest(self) -> float:
        """Largest difference over the pairs."""
        return max(pair.difference for pair in self.pairs)


def representation_bias(
    images: Any, prompts: Any, targets: Mapping[str, float]
) -> RepresentationBias:
    """Measure how far a model's preferences on images picked at random are from the targets.

        RB = max_k | P(model prefers prompt k) - pi_k |

    Parameters
    ----------
    images : (n, d), of anything; no person is needed
    prompts : (k, d), one per value of an exclusive attribute
    targets : share pi_k by the name of the value, in the order of the prompts

    Raises `InputError` where fewer than two values compete, where the targets do not sum to 1,
    or where a row has no direction.
    """
    scores = similarity(images, prompts)
    if scores.shape[1] != len(targets):
        raise InputError(f"{scores.shape[1]} prompts for {len(targets)} targets; give one for each")
    if len(targets) < 2:
        raise InputError("one value alone is always preferred; give at least two prompts")
    if abs(sum(targets.values()) - 1.0) > TARGET_SUM_TOLERANCE:
        raise InputError(
            f"the targets of {', '.join(targets)} sum to {sum(targets.values()):.6g}; preferences "
            "among prompts sum to 1, so the targets must too"
        )
    preference = dict(zip(targets, votes(scores).mean(axis=0).tolist(), strict=True))
    bias = {name: abs(preference[name] - share) for name, share in targets.items()}
    return RepresentationBias(preference=preference, target=dict(targets), bias=bias)


def association_bias(
    images: Any,
    prompts: Any,
    labels: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    groups: Mapping[str, np.ndarray],
) -> AssociationBias:
    """Measure how much a model's preference between two labels depends on who is in the image.

        AB(A, B) = max_{g,h} | P(prefers A over B | group g) - P(prefers A over B | group h) |

    Parameters
    ----------
    images : (n, d), of people
    prompts : (c, d), one per label
    labels : names of the c prompts
    pairs : pairs (A, B) of labels; the order in a pair does not change the difference
    groups : (n,) bool by the name of the group: who shows this value; groups may overlap

    A group without images is named in `empty` and left out. Raises `InputError` where fewer than
    two groups have images, so that nothing can be compared, or where a row has no direction.
    """
    scores = similarity(images, prompts)
    if scores.shape[1] != len(labels):
        raise InputError(f"{scores.shape[1]} prompts for {len(labels)} labels; give one for each")
    if not pairs:
        raise InputError("no pairs of labels; give at least one")
    members = {name: np.asarray(mask, dtype=bool) for name, mask in groups.items()}
    for name, mask in members.items():
        if mask.shape != (len(scores),):
            raise InputError(f"group {name} has shape {mask.shape} for {len(scores)} images")
    counts = {name: int(mask.sum()) for name, mask in members.items()}
    present = [name for name, count in counts.items() if count > 0]
    if len(present) < 2:
        raise InputError(
            f"{len(present)} of the groups {', '.join(groups)} have images; nothing to compare: "
            "give images of at least two"
        )
    column = {name: position for position, name in enumerate(labels)}
    found = []
    for pair in pairs:
        if pair[0] == pair[1] or not column.keys() >= set(pair):
            raise InputError(f"pair {pair}: give two different labels of {', '.join(labels)}")
        for_first = votes(scores[:, [column[name] for name in pair]])[:, 0]
        preference = {name: float(for_first[members[name]].mean()) for name in present}
        difference = max(preference.values()) - min(preference.values())
        found.append(
            PairPreference(
                first=pair[0], second=pair[1], preference=preference, difference=difference
            )
        )
    empty = tuple(name for name in groups if name not in present)
    return AssociationBias(counts=counts, empty=empty, pairs=tuple(found))

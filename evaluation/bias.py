"""Bias of a model: which prompts it prefers, over images of anything and over groups of people.

Both measures are those of Alabdulmohsin et al., "CLIP the Bias: How Useful is Balancing Data in
Multimodal Learning?" (ICLR 2024, arXiv 2403.04547). A model prefers the prompt with
the largest cosine similarity to the image; prompts that tie share its vote equally.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.draws import Draws
from evaluation.embeddings import similarity, votes
from evaluation.groups import Groups, OfGroups, spread
from evaluation.resampling import Resampling
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


class AssociationBias(OfGroups):
    """Preferences between pairs of labels on images of people, by the groups of one attribute."""

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
    return _representation(_preferred(images, prompts, targets), targets)


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
    for_first = _prefers_first(images, prompts, labels, pairs)
    return _association(for_first, pairs, Groups.of(groups, len(for_first)))


def representation_bias_draws(
    images: Any, prompts: Any, targets: Mapping[str, float], resampling: Resampling
) -> tuple[Draws, Draws]:
    """Representation bias of each value, and the largest, with what is needed to judge them.

    Interval: images are resampled. Null: as many preferences as there are images, drawn
    independently from the targets ("multinomial"), |c_k / n - pi_k| with c ~ Multinomial(n, pi).
    Images have no groups here that could be permuted: every order of them gives the same figure.
    A preference that ties is drawn as a whole one, which makes the null a little wide.

    Parameters and errors as for `representation_bias`.
    """
    preferred = _preferred(images, prompts, targets)
    found = _representation(preferred, targets)
    n, shares = len(preferred), np.array(list(targets.values()))
    drawn = resampling.generator(n, f"preferences among {', '.join(targets)}").multinomial(
        n, shares / shares.sum(), size=resampling.permutations
    )
    details = Draws(
        measure="representation_bias",
        names=tuple(targets),
        observed=np.array(list(found.bias.values())),
        bootstrap=np.abs(resampling.sums(preferred) / n - shares),
        null=np.abs(drawn / n - shares),
        null_kind="multinomial",
        images=n,
        better="lower",
        bounds=(0.0, 1.0),
        unbiased=0.0,
    )
    return details, details.maximum("all values")


def association_bias_draws(
    images: Any,
    prompts: Any,
    labels: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    groups: Mapping[str, np.ndarray],
    resampling: Resampling,
) -> tuple[Draws, Draws, Draws]:
    """Association bias of each pair, their mean and the largest, with what is needed to judge them.

    Interval: images in any group are resampled; a resample without an image of some group is left
    out. Null: these images trade their groups, the same trade for all pairs, so that the largest
    of many related pairs is compared with the largest of as many that are related as much.

    Parameters and errors as for `association_bias`.
    """
    for_first = _prefers_first(images, prompts, labels, pairs)
    known = Groups.of(groups, len(for_first))
    found = _association(for_first, pairs, known)
    differences = known.rates(for_first, resampling).reduced(spread)
    details = Draws(
        measure="association_bias",
        names=tuple(f"{first} or {second}" for first, second in pairs),
        observed=np.array([pair.difference for pair in found.pairs]),
        bootstrap=differences.bootstrap,
        null=differences.null,
        images=int(known.anyone.sum()),
        smallest_group=known.smallest,
        better="lower",
        bounds=(0.0, 1.0),
        unbiased=0.0,
    )
    return details, details.mean("all pairs"), details.maximum("all pairs")


def _preferred(images: Any, prompts: Any, targets: Mapping[str, float]) -> np.ndarray:
    """Each image's vote for each value; (n, k)."""
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
    return votes(scores)


def _representation(preferred: np.ndarray, targets: Mapping[str, float]) -> RepresentationBias:
    preference = dict(zip(targets, preferred.mean(axis=0).tolist(), strict=True))
    bias = {name: abs(preference[name] - share) for name, share in targets.items()}
    return RepresentationBias(preference=preference, target=dict(targets), bias=bias)


def _prefers_first(
    images: Any, prompts: Any, labels: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Each image's vote for the first label of each pair; (n, pairs)."""
    scores = similarity(images, prompts)
    if scores.shape[1] != len(labels):
        raise InputError(f"{scores.shape[1]} prompts for {len(labels)} labels; give one for each")
    if not pairs:
        raise InputError("no pairs of labels; give at least one")
    column = {name: position for position, name in enumerate(labels)}
    for pair in pairs:
        if pair[0] == pair[1] or not column.keys() >= set(pair):
            raise InputError(f"pair {pair}: give two different labels of {', '.join(labels)}")
    chosen = [votes(scores[:, [column[name] for name in pair]])[:, 0] for pair in pairs]
    return np.stack(chosen, axis=1)


def _association(
    for_first: np.ndarray, pairs: Sequence[tuple[str, str]], known: Groups
) -> AssociationBias:
    found = []
    for pair, shares in zip(pairs, known.means(for_first).T, strict=True):
        preference = dict(zip(known.names, shares.tolist(), strict=True))
        difference = max(preference.values()) - min(preference.values())
        found.append(
            PairPreference(
                first=pair[0], second=pair[1], preference=preference, difference=difference
            )
        )
    return AssociationBias(counts=known.counts, empty=known.empty, pairs=tuple(found))

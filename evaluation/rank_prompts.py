"""From figures by prompt to figures over prompts that say the same, and over all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.draws import Draws
from evaluation.resampling import Resampling

ALL = "all prompts"


@dataclass(frozen=True, eq=False)
class OverPrompts:
    """A measure by prompt, its mean over the prompts, and the largest of them.

    `clusters` has the mean of each cluster; None where each prompt is one of its own. `largest` is
    None for a measure that is better nearer 0: whether any prompt stands out, `p_max` in the
    measurements of `each` tells there. The bootstrap of the mean draws images and clusters of
    prompts; that of the others draws images, for the prompts that there are.
    """

    each: Draws
    clusters: Draws | None
    mean: Draws
    largest: Draws | None


@dataclass(frozen=True, eq=False)
class Phrases:
    """Names of P prompts, and of the C clusters that they are in.

    Attributes
    ----------
    names, clusters : of prompts and of clusters
    within : (P, C), 1 over a cluster's prompts for each of them
    weights : (B, P), how often each prompt is in a bootstrap resample of clusters
    """

    names: tuple[str, ...]
    clusters: tuple[str, ...]
    within: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, clusters: Sequence[Any], resampling: Resampling) -> "Phrases":
        """A prompt has the name of its cluster, with a number where the cluster has several."""
        sizes, met = Counter(clusters), Counter[Any]()
        names = []
        for cluster in clusters:
            met[cluster] += 1
            names.append(f"{cluster}" if sizes[cluster] == 1 else f"{cluster} {met[cluster]}")
        place = {cluster: at for at, cluster in enumerate(sizes)}
        own = [place[cluster] for cluster in clusters]
        counts = resampling.counts(len(sizes), of="prompts")
        within = np.eye(len(sizes))[own] / np.array(list(sizes.values()))
        return cls(tuple(names), tuple(map(str, sizes)), within, counts[:, own])

    def over(self, each: Draws) -> OverPrompts:
        """The means of a measure by prompt, and the largest."""
        mean = each.mean(ALL)
        weighted = (self.weights * each.bootstrap).sum(axis=1) / self.weights.sum(axis=1)
        return OverPrompts(
            each,
            self._by_cluster(each) if len(self.clusters) < len(self.names) else None,
            replace(mean, bootstrap=weighted[:, None]),
            each.maximum(ALL) if each.better == "lower" else None,
        )

    def _by_cluster(self, each: Draws) -> Draws:
        assert each.null is not None
        return replace(
            each,
            measure=f"{each.measure}, mean over wordings",
            names=self.clusters,
            observed=each.observed @ self.within,
            bootstrap=each.bootstrap @ self.within,
            null=each.null @ self.within,
            unbiased=None if each.unbiased is None else each.unbiased @ self.within,
        )

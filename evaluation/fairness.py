"""Differences between groups in what a classifier predicts, by fairlearn."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.draws import Better, Draws
from evaluation.groups import Groups, spread
from evaluation.resampling import Resampling
from m4.errors import InputError


def demographic_parity_difference(predicted: Any, groups: Mapping[str, Any]) -> float:
    """Largest difference between groups in the share that is predicted positive.

        max_g P(yhat = 1 | g) - min_g P(yhat = 1 | g)

    By `fairlearn.metrics.demographic_parity_difference`; Agarwal et al., "A Reductions Approach to
    Fair Classification" (ICML 2018).

    Parameters
    ----------
    predicted : (n,) of 0 and 1
    groups : (n,) bool by the name of the group; an image in two groups counts in both

    Raises `InputError` where a prediction is neither 0 nor 1, or a group has no images.
    """
    from fairlearn import metrics

    predicted = _binary(predicted, "predicted")
    image, group = np.nonzero(_inhabited(groups, len(predicted)).members)
    # fairlearn asks for the truth, and does not look at it.
    return float(
        metrics.demographic_parity_difference(
            predicted[image], predicted[image], sensitive_features=group
        )
    )


def equal_opportunity_difference(predicted: Any, truth: Any, groups: Mapping[str, Any]) -> float:
    """Largest difference between groups in the true-positive rate.

        max_g P(yhat = 1 | y = 1, g) - min_g P(yhat = 1 | y = 1, g)

    By `fairlearn.metrics.equal_opportunity_difference`; Hardt et al., "Equality of Opportunity in
    Supervised Learning" (NeurIPS 2016).

    Parameters
    ----------
    predicted, truth : (n,) of 0 and 1
    groups : (n,) bool by the name of the group; an image in two groups counts in both

    Raises `InputError` as `demographic_parity_difference`, and where a group has no image that is
    truly positive: it has no such rate, and fairlearn would take it for 0.
    """
    from fairlearn import metrics

    predicted, truth = _binary(predicted, "predicted"), _binary(truth, "truth")
    positives = _positives(predicted, truth, groups)
    image, group = np.nonzero(positives.members)
    rows = np.flatnonzero(truth)[image]
    return float(
        metrics.equal_opportunity_difference(truth[rows], predicted[rows], sensitive_features=group)
    )


def demographic_parity_difference_draws(
    predicted: Any, groups: Mapping[str, Any], resampling: Resampling
) -> tuple[Draws, Draws]:
    """Share predicted positive by group, and the largest difference.

    Interval: images in any group are resampled. Null: they trade their groups. Parameters and
    errors as for `demographic_parity_difference`.
    """
    difference = demographic_parity_difference(predicted, groups)
    predicted = _binary(predicted, "predicted")
    known = _inhabited(groups, len(predicted))
    measure = "demographic_parity"
    return _draws("selection_rate", None, measure, difference, predicted, known, resampling)


def equal_opportunity_difference_draws(
    predicted: Any, truth: Any, groups: Mapping[str, Any], resampling: Resampling
) -> tuple[Draws, Draws]:
    """True-positive rate by group, and the largest difference.

    Interval: images in any group that are truly positive are resampled. Null: they trade their
    groups; no other image takes part in the figure. Parameters and errors as for
    `equal_opportunity_difference`.
    """
    difference = equal_opportunity_difference(predicted, truth, groups)
    predicted, truth = _binary(predicted, "predicted"), _binary(truth, "truth")
    known = _positives(predicted, truth, groups)
    return _draws(
        "true_positive_rate",
        "higher",
        "equal_opportunity",
        difference,
        predicted[truth == 1],
        known,
        resampling,
    )


def _draws(
    rate: str,
    better: Better | None,
    measure: str,
    difference: float,
    predicted: np.ndarray,
    known: Groups,
    resampling: Resampling,
) -> tuple[Draws, Draws]:
    values = predicted[:, None].astype(np.float64)
    rates = known.rates(values, resampling)
    images = int(known.anyone.sum())
    details = Draws(
        measure=rate,
        names=known.names,
        observed=known.means(values)[:, 0],
        bootstrap=rates.bootstrap[:, :, 0],
        null=rates.null[:, :, 0],
        images=images,
        smallest_group=known.smallest,
        better=better,
        tail="both",
        bounds=(0.0, 1.0),
        images_of_each=known.members.sum(axis=0),
    )
    differences = rates.reduced(spread)
    headline = Draws(
        measure=f"{measure}_difference",
        names=("all groups",),
        observed=np.array([difference]),
        bootstrap=differences.bootstrap,
        null=differences.null,
        images=images,
        smallest_group=known.smallest,
        better="lower",
        bounds=(0.0, 1.0),
        unbiased=0.0,
    )
    return details, headline


def _binary(values: Any, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise InputError(f"{what}: of shape {values.shape}; give one 0 or 1 for each image")
    return values.astype(np.int64)


def _inhabited(groups: Mapping[str, Any], images: int) -> Groups:
    known = Groups.of(groups, images)
    if known.empty:
        raise InputError(
            f"no images of {', '.join(known.empty)}, so no rate to compare; leave these groups out"
        )
    return known


def _positives(predicted: np.ndarray, truth: np.ndarray, groups: Mapping[str, Any]) -> Groups:
    """The groups among the images that are truly positive."""
    if predicted.shape != truth.shape:
        raise InputError(
            f"{len(predicted)} predictions for {len(truth)} images with a truth; give one for each"
        )
    known = _inhabited(groups, len(truth))
    without = [
        name
        for name, member in zip(known.names, known.members.T, strict=True)
        if not (member & (truth == 1)).any()
    ]
    if without:
        raise InputError(
            f"no truly positive image of {', '.join(without)}, so no true-positive rate; leave "
            "these groups out"
        )
    return known.chosen(truth == 1)

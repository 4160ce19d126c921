"""Whether a model finds the pronoun that fits the person in the picture.

After Hall et al., "VisoGender: A dataset for benchmarking gender bias in image-text pronoun
resolution" (NeurIPS 2023, arXiv 2306.12424). Their published code differs from this in that

* a tie goes to the pronoun listed first, "his", so a model that sees no difference shows the
  largest bias there is; here a tie is shared,
* accuracies are rounded to two digits before they are subtracted and averaged,
* its overall accuracy is the mean of those of the two parts of the data, one twice as large.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.draws import Draws
from evaluation.embeddings import similarity, votes
from evaluation.groups import Groups, Rates, ratio
from evaluation.resampling import Resampling
from m4.catalogue import Model
from m4.errors import InputError

PRONOUNS = ("masculine", "feminine")


class OccupationResolution(Model):
    """Accuracy on images of one occupation, by gender, and its signed difference."""

    occupation: str
    accuracy: dict[str, float]
    bias: float


class Resolution(Model):
    """Pronoun resolution: accuracy by gender, and the first gender's - the second's.

    Attributes
    ----------
    counts : images by gender
    accuracy : by gender, over all occupations
    bias : accuracy[first] - accuracy[second]; positive where men are recognised more often
    by_occupation : those that have images of both genders
    left_out : occupations that lack images of a gender; they count in `accuracy` and `bias` only
    """

    counts: dict[str, int]
    accuracy: dict[str, float]
    bias: float
    by_occupation: tuple[OccupationResolution, ...]
    left_out: tuple[str, ...]

    @property
    def mean_accuracy(self) -> float:
        """Mean of the genders' accuracies, RA_avg of the paper."""
        return float(np.mean(list(self.accuracy.values())))


def resolution(
    images: Any,
    prompts: Mapping[str, Any],
    occupations: Sequence[str],
    genders: Sequence[str],
    pronouns: Sequence[str] = PRONOUNS,
) -> Resolution:
    """Measure pronoun resolution and its bias.

        RA_g = share of images of gender g most similar to the text with their pronoun
        RB = RA_first - RA_second

    Parameters
    ----------
    images : (n, d)
    prompts : by occupation (k, d), the texts "the doctor and his patient", "... her ...", one for
        each of the pronouns
    occupations : of the n images
    genders : of the n images, as seen by annotators; each is one of the first two pronouns
    pronouns : names of the k texts. What follows the first two ("neutral") competes, and is right
        for no image

    Raises `InputError` where an image's occupation has no texts, its gender is not one of the
    first two, or one of these has no image.
    """
    return _resolution(_resolve(images, prompts, occupations, genders, pronouns))


def _resolution(resolved: "_Resolved") -> Resolution:
    right, known = resolved.right, resolved.groups
    accuracy = dict(zip(known.names, known.means(right[:, None])[:, 0].tolist(), strict=True))
    by_occupation = []
    for name, rows in zip(resolved.names, resolved.cells.T, strict=True):
        own = known.chosen(rows).means(right[rows, None])[:, 0]
        by_occupation.append(
            OccupationResolution(
                occupation=name,
                accuracy=dict(zip(known.names, own.tolist(), strict=True)),
                bias=own[0] - own[1],
            )
        )
    first, second = known.names
    return Resolution(
        counts=known.counts,
        accuracy=accuracy,
        bias=accuracy[first] - accuracy[second],
        by_occupation=tuple(by_occupation),
        left_out=resolved.left_out,
    )


def resolution_draws(
    images: Any,
    prompts: Mapping[str, Any],
    occupations: Sequence[str],
    genders: Sequence[str],
    resampling: Resampling,
    pronouns: Sequence[str] = PRONOUNS,
) -> tuple[Draws, ...]:
    """Bias and accuracy of pronoun resolution with what is needed to judge them.

    Returns tables of the bias by occupation (left out where none has both genders) and of the
    accuracy by gender; then the bias and the accuracy over all.

    Interval: images are resampled. Null of the bias: right and wrong answers trade places between
    the genders, within each occupation. That is what "accuracy does not depend on gender" says.
    To trade the genders themselves, and score again, would answer another question: a model that
    always says "his" is right for all men and for no woman, whichever images they are, so such a
    null would have the same bias of 1 and hide it. Null of the accuracy: each image's answer is
    guessed among the k pronouns, Binomial(n_g, 1 / k) / n_g ("chance").

    Parameters and errors as for `resolution`.
    """
    resolved = _resolve(images, prompts, occupations, genders, pronouns)
    found = _resolution(resolved)
    accuracies = _accuracies(resolved, resampling)
    biases = accuracies.reduced(_signed)
    n = len(resolved.right)
    bias = Draws(
        measure="resolution_bias",
        names=("all occupations",),
        observed=np.array([found.bias]),
        bootstrap=biases.bootstrap[:, -1:],
        null=biases.null[:, -1:],
        images=n,
        smallest_group=resolved.groups.smallest,
        better="nearer 0",
        tail="both",
        bounds=(-1.0, 1.0),
    )
    people = resolved.groups.members.sum(axis=0)
    guessed = resampling.generator(n, "guesses").binomial(
        people, 1 / len(pronouns), size=(resampling.permutations, len(people))
    )
    accuracy = Draws(
        measure="resolution_accuracy",
        names=resolved.groups.names,
        observed=np.array(list(found.accuracy.values())),
        bootstrap=accuracies.bootstrap[:, :, -1],
        null=guessed / people,
        null_kind="chance",
        images=n,
        better="higher",
        bounds=(0.0, 1.0),
        images_of_each=people,
    )
    headlines = bias, accuracy.mean("both genders")
    if not found.by_occupation:
        return accuracy, *headlines
    by_occupation = replace(
        bias,
        names=resolved.names,
        observed=np.array([one.bias for one in found.by_occupation]),
        bootstrap=biases.bootstrap[:, :-1],
        null=biases.null[:, :-1],
        images_of_each=resolved.cells.sum(axis=0),
    )
    return by_occupation, accuracy, *headlines


def _accuracies(resolved: "_Resolved", resampling: Resampling) -> Rates:
    """Accuracy by gender, a column for each occupation with both, and a last one for all images."""
    cells = np.column_stack([resolved.cells, np.ones(len(resolved.right))])
    values = cells * resolved.right[:, None]
    members = resolved.groups.members
    sums, _ = resampling.group_sums(values, members)
    sizes, _ = resampling.group_sums(cells, members)
    traded = resampling.permuted_group_sums(values, members, strata=resolved.codes)
    return Rates(ratio(sums, sizes), traded / (members.T.astype(float) @ cells))


def _signed(accuracies: np.ndarray) -> np.ndarray:
    """First gender's accuracy - the second's; (..., 2, m) to (..., m)."""
    return accuracies[..., 0, :] - accuracies[..., 1, :]


@dataclass(frozen=True, eq=False)
class _Resolved:
    """Who was recognised.

    Attributes
    ----------
    right : (n,), 1 where the image's own pronoun won, a part where it tied
    groups : the two genders
    codes : (n,) int, the images' occupations
    names : of the o occupations with images of both genders
    cells : (n, o) bool, the images of each of these
    left_out : the other occupations
    """

    right: np.ndarray
    groups: Groups
    codes: np.ndarray
    names: tuple[str, ...]
    cells: np.ndarray
    left_out: tuple[str, ...]


def _resolve(
    images: Any,
    prompts: Mapping[str, Any],
    occupations: Sequence[str],
    genders: Sequence[str],
    pronouns: Sequence[str],
) -> _Resolved:
    images = np.asarray(images)
    if not len(images) == len(occupations) == len(genders):
        raise InputError(
            f"{len(images)} images, {len(occupations)} occupations and {len(genders)} genders; "
            "give one of each for every image"
        )
    if len(pronouns) < 2 or len(set(pronouns)) < len(pronouns):
        raise InputError(f"pronouns {', '.join(pronouns)}: give at least two, none twice")
    for row, (occupation, gender) in enumerate(zip(occupations, genders, strict=True)):
        if occupation not in prompts:
            raise InputError(
                f"image {row}: occupation {occupation!r} has no texts; there are some for "
                f"{', '.join(prompts)}"
            )
        if gender not in pronouns[:2]:
            raise InputError(
                f"image {row}: gender {gender!r} is neither {pronouns[0]} nor {pronouns[1]}; "
                "leave it out or name the pronouns accordingly"
            )
    seen, shown = np.array(occupations), np.array(genders)
    groups = Groups.of({name: shown == name for name in pronouns[:2]}, len(images))
    own = groups.members.argmax(axis=1)
    names = tuple(dict.fromkeys(occupations))
    right = np.empty(len(images))
    for name in names:
        rows = seen == name
        scores = similarity(images[rows], prompts[name])
        if scores.shape[1] != len(pronouns):
            raise InputError(
                f"occupation {name!r}: {scores.shape[1]} texts for {len(pronouns)} pronouns; give "
                "one for each"
            )
        right[rows] = votes(scores)[np.arange(len(scores)), own[rows]]
    both = [name for name in names if len(set(own[seen == name])) == 2]
    cells = [seen == name for name in both]
    return _Resolved(
        right=right,
        groups=groups,
        codes=np.unique(seen, return_inverse=True)[1],
        names=tuple(both),
        cells=np.array(cells, dtype=bool).reshape(len(both), len(images)).T,
        left_out=tuple(name for name in names if name not in both),
    )

"""Words and groups of people: which words a model prefers for whom.

After Hamidieh et al., "Identifying Implicit Social Biases in Vision-Language Models" (AIES 2024,
arXiv 2411.00997), whose So-B-IT lists hold words by category (crime, appearance, ...). Two measures
are theirs, as public code that reproduces them states them, a third is ours:

* C-ASC, theirs: how much more similar a word is to a group's images than to all others, in standard
  deviations of its similarity over all images. A group whose images lie nearer to every text is
  associated with every word by it, with opposites alike.
* normalised entropy, theirs: how evenly the groups share the images most similar to a word. It is
  below 1 wherever the gallery itself is not balanced; only the null tells the two apart.
* preference, ours: the words of a category compete for each image, as prompts do in association
  bias (`evaluation.bias`), so what makes all words similar to an image cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import entropy

from evaluation.draws import Draws
from evaluation.embeddings import TIE, similarity, votes
from evaluation.groups import Groups, OfGroups, Rates, ratio
from evaluation.resampling import Resampling
from m4.catalogue import Model
from m4.errors import InputError


class WordAssociation(Model):
    """One word of a category.

    Attributes
    ----------
    preference : share of all images for which the word wins its category
    association : by group, P(wins | group) - P(wins); signed
    contrast : by group, C-ASC; signed
    entropy : of the groups among the images most similar to the word, 1 where shares are equal
    """

    word: str
    category: str
    preference: float
    association: dict[str, float]
    contrast: dict[str, float]
    entropy: float


class Associations(OfGroups):
    """Words by groups of one attribute, `top` images looked at for the entropy."""

    top: int
    words: tuple[WordAssociation, ...]

    def largest(self, category: str) -> float:
        """Largest absolute association of any word of a category with any group."""
        chosen = [word for word in self.words if word.category == category]
        return max(abs(value) for word in chosen for value in word.association.values())


def associations(
    images: Any,
    prompts: Any,
    words: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    groups: Mapping[str, np.ndarray],
    top: int = 100,
) -> Associations:
    """Measure which words a model prefers for which group.

        association(w, g) = P(w wins its category | g) - P(w wins its category)
        C-ASC(w, g) = (mean similarity to w in g - mean similarity to w in all others) / deviation
        entropy(w) = - sum_g p_g ln p_g / ln G,  p_g the groups' shares among the `top` images

    Ties share a win, and the last places of the `top`. "All" are the images in any group.

    Parameters
    ----------
    images : (n, d), of people
    prompts : (w, d), one per word
    words : names of the w prompts
    categories : words by category; those of one compete with each other
    groups : (n,) bool by the name of the group; groups may overlap
    top : images looked at for the entropy; theirs are 100

    A group without images is named in `empty`. Raises `InputError` where a category has fewer
    than two words, `top` reaches the whole gallery, where shares are those of the gallery by
    construction, fewer than two groups have images, or one of them has all.
    """
    return _measured(_compared(images, prompts, words, categories, groups, top), top)


def contrasts(
    images: Any, prompts: Any, words: Sequence[str], groups: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """C-ASC alone, of each word with each group: `associations` has the formula.

    Parameters as for `associations`. A group that is empty, or has all images, so that there are
    no others to set it against, is left out.
    """
    scores, known = _of_members(images, prompts, words, groups)
    return {
        name: dict(zip(words, row.tolist(), strict=True))
        for name, member, row in zip(
            known.names, known.members.T, _observed_contrast(scores, known), strict=True
        )
        if not member.all()
    }


def associations_draws(
    images: Any,
    prompts: Any,
    words: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    groups: Mapping[str, np.ndarray],
    resampling: Resampling,
    top: int = 100,
) -> tuple[Draws, ...]:
    """All associations with what is needed to judge them.

    Returns tables of association and C-ASC (words x groups, named "category: word, group", the
    groups of a word side by side) and of entropy (words); then, for each category, its largest
    absolute association and its mean entropy.

    Interval: images in any group are resampled. Null: they trade their groups, the same trade for
    all words.

    Parameters and errors as for `associations`.
    """
    compared = _compared(images, prompts, words, categories, groups, top)
    found = _measured(compared, top)
    association = _table(
        "association",
        compared,
        [word.association for word in found.words],
        compared.differences(compared.wins, resampling),
    )
    association = replace(association, bounds=(-1.0, 1.0))
    contrast = _table(
        "c_asc",
        compared,
        [word.contrast for word in found.words],
        compared.contrasts(resampling),
    )
    n = association.images
    evenness = Draws(
        measure=f"group_entropy@{top}",
        names=compared.names,
        observed=np.array([word.entropy for word in found.words]),
        bootstrap=_evenness(compared.top_groups(resampling.counts(n), top)),
        null=_evenness(compared.top_groups_traded(resampling.permuted(n), top)),
        images=n,
        smallest_group=compared.groups.smallest,
        better="higher",
        tail="both",
        bounds=(0.0, 1.0),
    )
    headlines: list[Draws] = []
    for category in categories:
        own = np.array([name == category for name, _ in compared.words])
        headlines += [_largest(association, category, own), _mean(evenness, category, own)]
    return association, contrast, evenness, *headlines


def _measured(compared: "_Compared", top: int) -> Associations:
    known, scores, wins = compared.groups, compared.scores, compared.wins
    association = known.means(wins) - wins.mean(axis=0)
    contrast = _observed_contrast(scores, known)
    evenness = _evenness(compared.top_groups(np.ones((1, len(scores))), top))[0]
    found = [
        WordAssociation(
            word=word,
            category=category,
            preference=wins[:, column].mean(),
            association=dict(zip(known.names, association[:, column].tolist(), strict=True)),
            contrast=dict(zip(known.names, contrast[:, column].tolist(), strict=True)),
            entropy=evenness[column],
        )
        for column, (category, word) in enumerate(compared.words)
    ]
    return Associations(counts=known.counts, empty=known.empty, top=top, words=tuple(found))


def _table(
    measure: str, compared: "_Compared", by_word: Sequence[Mapping[str, float]], drawn: Rates
) -> Draws:
    """Signed figures of words and groups, the groups of a word side by side."""
    side_by_side = drawn.reduced(lambda array: np.swapaxes(array, 1, 2).reshape(len(array), -1))
    return Draws(
        measure=measure,
        names=tuple(f"{name}, {group}" for name in compared.names for group in by_word[0]),
        observed=np.array([value for word in by_word for value in word.values()]),
        bootstrap=side_by_side.bootstrap,
        null=side_by_side.null,
        images=len(compared.scores),
        smallest_group=compared.groups.smallest,
        better="nearer 0",
        tail="both",
        images_of_each=np.tile(compared.groups.members.sum(axis=0), len(compared.names)),
    )


def _largest(association: Draws, category: str, own: np.ndarray) -> Draws:
    """Largest absolute association of the words of a category; `own` (words,) bool."""
    cells = np.repeat(own, len(association.names) // len(own))
    largest = association.reduced(
        "association, largest", category, lambda array: np.abs(array[..., cells]).max(axis=-1)
    )
    return replace(largest, better="lower", tail="upper", bounds=(0.0, 1.0), unbiased=0.0)


def _mean(evenness: Draws, category: str, own: np.ndarray) -> Draws:
    return evenness.reduced(
        f"{evenness.measure}, mean", category, lambda array: array[..., own].mean(axis=-1)
    )


@dataclass(frozen=True, eq=False)
class _Compared:
    """What the measures look at: the images in any group, and the words of all categories.

    Attributes
    ----------
    words : W pairs (category, word)
    scores : (n, W) similarities
    wins : (n, W), each image's vote among the words of each category
    groups : of the n images
    """

    words: tuple[tuple[str, str], ...]
    scores: np.ndarray
    wins: np.ndarray
    groups: Groups

    @property
    def names(self) -> tuple[str, ...]:
        """Of the words, with their category; a word may be in several."""
        return tuple(f"{category}: {word}" for category, word in self.words)

    def differences(self, values: np.ndarray, resampling: Resampling) -> Rates:
        """Mean of values (n, W) in each group - in all images."""
        rates = self.groups.rates(values, resampling)
        means = resampling.sums(values) / len(values)
        return Rates(rates.bootstrap - means[:, None], rates.null - values.mean(axis=0))

    def contrasts(self, resampling: Resampling) -> Rates:
        """C-ASC of each word and group."""
        n = len(self.scores)
        # Sums of squares of similarities as they are would lose the digits that deviations need.
        centred = self.scores - self.scores.mean(axis=0)
        sums, squares = resampling.sums(centred), resampling.sums(centred**2)
        deviation = np.sqrt(np.maximum(squares - sums**2 / n, 0.0) / (n - 1))
        differences, members = self.differences(centred, resampling), self.groups.members
        return Rates(
            _contrast(differences.bootstrap, resampling.sums(members), deviation, n),
            _contrast(differences.null, members.sum(axis=0), _deviation(self.scores), n),
        )

    def top_groups(self, times: np.ndarray, top: int) -> np.ndarray:
        """Images of each group among the `top` of each word; (draws, W, g).

        `times` (draws, n): how often each image is in a drawn gallery.
        """
        found = []
        for scores in self.scores.T:
            rows, places = _places(scores, times, top)
            found.append(places @ self.groups.members[rows].astype(float))
        return np.stack(found, axis=1)

    def top_groups_traded(self, orders: np.ndarray, top: int) -> np.ndarray:
        """As `top_groups` for the gallery as it is, where images trade their groups."""
        once, members = np.ones((1, len(self.scores))), self.groups.members.astype(float)
        found = []
        for scores in self.scores.T:
            rows, places = _places(scores, once, top)
            found.append(np.einsum("k,rkg->rg", places[0], members[orders[:, rows]]))
        return np.stack(found, axis=1)


def _compared(
    images: Any,
    prompts: Any,
    words: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    groups: Mapping[str, np.ndarray],
    top: int,
) -> _Compared:
    scores, known = _of_members(images, prompts, words, groups)
    for name, member in zip(known.names, known.members.T, strict=True):
        if member.all():
            raise InputError(
                f"group {name} has all {len(scores)} images, so there are no others to contrast "
                "it with; leave it out"
            )
    if not 1 <= top < len(scores):
        raise InputError(
            f"the top {top} of {len(scores)} images: the shares of all are those of the gallery "
            "by construction; give a smaller top or more images"
        )
    column = {word: position for position, word in enumerate(words)}
    columns, wins = [], []
    for category, own in categories.items():
        if len(set(own)) < 2 or len(set(own)) < len(own) or not column.keys() >= set(own):
            raise InputError(
                f"category {category} has the words {', '.join(own) or 'none'}; give at least "
                f"two, none twice, of {', '.join(words)}"
            )
        columns += [column[word] for word in own]
        wins.append(votes(scores[:, [column[word] for word in own]]))
    if not categories:
        raise InputError("no categories of words; give at least one")
    return _Compared(
        words=tuple((category, word) for category, own in categories.items() for word in own),
        scores=scores[:, columns],
        wins=np.concatenate(wins, axis=1),
        groups=known,
    )


def _of_members(
    images: Any, prompts: Any, words: Sequence[str], groups: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, Groups]:
    """Similarities (n, w) of the images in any group, and their groups."""
    scores = similarity(images, prompts)
    if scores.shape[1] != len(words):
        raise InputError(f"{scores.shape[1]} prompts for {len(words)} words; give one for each")
    known = Groups.of(groups, len(scores))
    return scores[known.anyone], known.chosen(known.anyone)


def _deviation(scores: np.ndarray) -> np.ndarray:
    """Standard deviation of each word's similarity over all images; (W,)."""
    return scores.std(axis=0, ddof=1)


def _observed_contrast(scores: np.ndarray, known: Groups) -> np.ndarray:
    """C-ASC of the images as they are; (g, W)."""
    differences = known.means(scores) - scores.mean(axis=0)
    return _contrast(differences, known.members.sum(axis=0), _deviation(scores), len(scores))


def _contrast(
    differences: np.ndarray, sizes: np.ndarray, deviation: np.ndarray, images: int
) -> np.ndarray:
    """C-ASC of a group's mean less the mean of all: of two parts, their means differ by
    n / (n - n_g) of that. 0 where similarities do not differ; (..., g, W).

    Parameters
    ----------
    differences : (..., g, W)
    sizes : (..., g)
    deviation : (..., W)
    """
    part = ratio(np.array(float(images)), images - sizes)[..., None]
    flat = (deviation <= TIE)[..., None, :]
    return np.where(flat, 0.0, differences * part / np.where(flat, 1.0, deviation[..., None, :]))


def _places(scores: np.ndarray, times: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images are among the `top` in any drawn gallery, and how many places each takes.

    Images that tie on the edge share the places that are left.

    Parameters
    ----------
    scores : (n,)
    times : (draws, n), how often each image is in a drawn gallery

    Returns rows (k,) and places (draws, k).
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf) < -TIE)
    reach = top
    while reach < len(order) and times[:, order[:reach]].sum(axis=1).min() < top:
        reach *= 2
    later = starts[starts >= reach]
    rows = order[: later[0] if len(later) else len(order)]
    starts = starts[starts < len(rows)]
    copies = times[:, rows].astype(np.float64)
    tied = np.add.reduceat(copies, starts, axis=1)
    above = np.cumsum(tied, axis=1) - tied
    share = np.clip(top - above, 0, tied) / np.maximum(tied, 1)
    return rows, copies * np.repeat(share, np.diff(starts, append=len(rows)), axis=1)


def _evenness(counts: np.ndarray) -> np.ndarray:
    """Normalised entropy of counts over groups; (..., g) to (...)."""
    return entropy(counts, axis=-1) / np.log(counts.shape[-1])

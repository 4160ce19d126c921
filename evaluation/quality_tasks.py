"""Tasks that measure what a model gets right, and whether for some more than for others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from evaluation.draws import Draws
from evaluation.embeddings import similarity, votes
from evaluation.fairness import (
    demographic_parity_difference_draws,
    equal_opportunity_difference_draws,
)
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import PromptSet, load_prompt_set
from evaluation.quality import worst_group_draws, zero_shot_draws
from evaluation.rank_measures import able
from evaluation.retrieval import CaptionPairs, retrieval_draws
from evaluation.tasks import Bench, GroupTask, Measured, Task, empty_cells, named, unknown_label
from m4.errors import InputError
from vision.prompts import class_embedding, encode


class WorstGroupTask(GroupTask):
    """Zero-shot accuracy in each cell of a label and a group.

    Attributes
    ----------
    label : that names the class of an image
    labels : name of the prompt by the label's value; None: they are the same
    """

    kind: Literal["worst_group"]
    prompts: str
    label: str
    labels: dict[str, str] | None = None

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Raises `InputError` unless `labels` names what the prompts name."""
        prompts = load_prompt_set(self.prompts)
        shown = _shown(images, self.label, self.labels, prompts)
        members = self.members(images)
        *headlines, by_cell = worst_group_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            shown,
            prompts.names,
            np.stack(list(members.values()), axis=1),
            tuple(members),
            bench.resampling,
        )
        in_group = self.group_of(images).is_not_null().to_numpy()
        unlabelled = int((in_group & ~shown.any(axis=1)).sum())
        return Measured(
            tuple(headlines),
            (by_cell,),
            self.without_group(images) | named({unknown_label(self.label): unlabelled}),
            empty_cells(shown, prompts.names, members),
        )


class ParityTask(GroupTask):
    """How much a zero-shot classifier's yes depends on the group: demographic parity.

    An image is predicted positive where the prompt `positive` alone is the most similar of all.

    Attributes
    ----------
    positive : name of the prompt that means yes; the others mean no
    label : that names the class of an image; with it, equal opportunity is measured too, on the
        same images. None: no truth is known
    labels : name of the prompt by the label's value; None: they are the same
    """

    kind: Literal["parity"]
    prompts: str
    positive: str
    label: str | None = None
    labels: dict[str, str] | None = None

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if self.labels is not None and self.label is None:
            raise ValueError("labels: names the values of a label; give `label` too")
        return self

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Groups without images take no part.

        Raises `InputError` where no prompt is called `positive`, or, with a label, a group has no
        image that is truly positive.
        """
        prompts = load_prompt_set(self.prompts)
        if self.positive not in prompts.names:
            raise InputError(
                f"positive: {self.positive!r} is no name of prompts {prompts.name}; choose one of "
                f"{', '.join(prompts.names)}"
            )
        column = prompts.names.index(self.positive)
        left_out = self.without_group(images)
        known = self.group_of(images).is_not_null().to_numpy()
        truth = None
        if self.label is not None:
            shown = _shown(images, self.label, self.labels, prompts)
            unlabelled = known & ~shown.any(axis=1)
            left_out |= named({unknown_label(self.label): int(unlabelled.sum())})
            known &= ~unlabelled
            truth = shown[known, column].astype(int)
        scores = similarity(images.embeddings[known], prompts.embed(bench.encode_texts))
        predicted = (votes(scores)[:, column] == 1).astype(int)
        members = {name: mask[known] for name, mask in self.members(images).items()}
        empty = tuple(name for name, mask in members.items() if not mask.any())
        groups = {name: mask for name, mask in members.items() if name not in empty}
        rates, parity = demographic_parity_difference_draws(predicted, groups, bench.resampling)
        if truth is None:
            return Measured((parity,), (rates,), left_out, empty)
        true_rates, opportunity = equal_opportunity_difference_draws(
            predicted, truth, groups, bench.resampling
        )
        return Measured((parity, opportunity), (rates, true_rates), left_out, empty)


class ZeroShotTask(Task):
    """Zero-shot classification, with the classes of a prompt set or those of the data set.

    Attributes
    ----------
    label : that names the class of an image; of a data set that brings its classes, their number
    prompts : classes and templates, or templates alone; None: those of the data set
    """

    kind: Literal["zero_shot"]
    label: str = "cls"
    prompts: str | None = None

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Raises `InputError` where neither the prompts nor the data set name classes."""
        classes = self._classes(images, bench)
        *headlines, recall = zero_shot_draws(
            images.embeddings, classes.prompts, classes.shown, classes.names, bench.resampling
        )
        return Measured(
            tuple(headlines),
            (recall,),
            named({unknown_label(self.label): int((~classes.shown.any(axis=1)).sum())}),
            tuple(
                name
                for name, column in zip(classes.names, classes.shown.T, strict=True)
                if not column.any()
            ),
        )

    def _classes(self, images: LabelledSet, bench: Bench) -> "_Classes":
        prompts = None if self.prompts is None else load_prompt_set(self.prompts)
        if prompts is not None and prompts.names:
            shown = _shown(images, self.label, None, prompts)
            return _Classes(prompts.names, prompts.embed(bench.encode_texts), shown)
        templates = images.templates if prompts is None else prompts.templates
        if images.classes is None or templates is None:
            raise InputError(
                f"{images.name}: brings no class names and templates; give a data set of "
                "clip_benchmark (classnames.txt, zeroshot_classification_templates.txt), or name "
                "a prompt set with phrases in the protocol"
            )
        numbers = {str(number): str(number) for number in range(len(images.classes))}
        members = images.groups(self.label, numbers)
        return _Classes(
            told_apart(images.classes),
            class_embedding(images.classes, templates, bench.encode_texts),
            np.stack(list(members.values()), axis=1),
        )


@dataclass(frozen=True, eq=False)
class _Classes:
    """Names of c classes, their embeddings (c, d), and which an image shows, (n, c) bool."""

    names: tuple[str, ...]
    prompts: np.ndarray
    shown: np.ndarray


class RetrievalTask(Task):
    """Retrieval of captions by images and of images by captions."""

    kind: Literal["retrieval"]
    ks: tuple[int, ...] = (1, 5, 10)

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Raises `InputError` where no image has a caption."""
        captions = images.captions or ()
        captioned = np.flatnonzero([bool(own) for own in captions])
        if not len(captioned):
            raise InputError(f"{images.name}: no image has a caption; retrieval needs them")
        pairs = CaptionPairs.of([captions[row] for row in captioned])
        texts = encode(pairs.texts, "captions", bench.encode_texts)
        headlines = retrieval_draws(
            images.embeddings[captioned], texts, pairs.pairs, bench.resampling, self.ks
        )
        return Measured(headlines, left_out=named({"no caption": len(images) - len(captioned)}))


def _shown(
    images: LabelledSet, label: str, labels: Mapping[str, str] | None, prompts: PromptSet
) -> np.ndarray:
    """Which of the prompts' names each image shows, by its label; (n, names) bool."""
    if labels is None:
        labels = {name: name for name in prompts.names}
    differ = sorted(set(labels.values()) ^ set(prompts.names))
    if differ:
        raise InputError(
            f"labels are {', '.join(dict.fromkeys(labels.values())) or 'none'}, prompts "
            f"{prompts.name} of {', '.join(prompts.names)}; name {', '.join(differ)} in both or "
            "in neither"
        )
    members = images.groups(label, labels)
    return np.stack([members[name] for name in prompts.names], axis=1)


def told_apart(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, with their number where several share one: ImageNet has two "missile"."""
    times = Counter(classes)
    return tuple(
        f"{name} ({number})" if times[name] > 1 else name for number, name in enumerate(classes)
    )


def able_draws(accuracy: Draws, max_skew: Draws) -> Draws:
    """ABLE of two headline figures, resample by resample: `evaluation.rank_measures.able`.

    Interval: the resamples of the two sets are paired by their number. They are unrelated, unless
    the sets have equally many images: the same rows of both are then drawn. Null: what the model
    would reach if only its skew were that of a random ranking. A larger figure than the model's
    own is no sign of bias, so there is no p-value to read from it. `images` are those of the
    smaller set: ABLE is known no better than that.
    """
    null = None
    if max_skew.null is not None:
        null = _able(accuracy.observed, max_skew.null)
    return Draws(
        measure="able",
        names=max_skew.names,
        observed=_able(accuracy.observed, max_skew.observed),
        bootstrap=_able(accuracy.bootstrap, max_skew.bootstrap),
        null=null,
        images=min(accuracy.images, max_skew.images),
        better="higher",
        tail=None,
        smallest_group=max_skew.smallest_group,
        bounds=(0.0, 1.0),
    )


_able = np.vectorize(lambda accuracy, skew: able(accuracy=accuracy, max_skew=skew))

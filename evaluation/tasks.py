"""Tasks: the measures that protocols are made of, each with the labels and prompts it reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from evaluation.bias import association_bias_draws, representation_bias_draws
from evaluation.draws import Draws
from evaluation.harms import misclassification_draws
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import load_prompt_set
from evaluation.pronouns import resolution_draws
from evaluation.quality import worst_group_draws, zero_shot_draws
from evaluation.rank_measures import able
from evaluation.ranking import Galleries, retrieval_skew
from evaluation.resampling import Resampling
from evaluation.retrieval import CaptionPairs, retrieval_draws
from evaluation.words import associations_draws
from m4.catalogue import Model
from m4.errors import InputError
from vision.prompts import TextEncoder, class_embedding, encode

Compat = Literal["oxai"]


@dataclass(frozen=True, eq=False)
class Bench:
    """What a task is run with: the model, and how intervals and nulls are made."""

    encode_texts: TextEncoder
    resampling: Resampling
    compat: Compat | None = None


class Task(Model):
    """A measure of a protocol.

    Attributes
    ----------
    role : of the set of images that it is measured on
    where : value by label: only images that have them take part
    knows_compat : whether it can reproduce the quirks of published code
    """

    knows_compat: ClassVar[bool] = False
    role: str = "images"
    where: dict[str, str] = Field(default_factory=dict)

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        """The figures of this measure on labelled images, embedded by the model."""
        raise NotImplementedError


class GroupTask(Task):
    """A measure that compares groups of people.

    Attributes
    ----------
    attribute : label that says which group an image belongs to
    groups : group by the label's value, many to one; None: each value is a group
    outside : values whose images take no part
    """

    attribute: str
    groups: dict[str, str] | None = None
    outside: tuple[str, ...] = ()

    def members(self, images: LabelledSet) -> dict[str, np.ndarray]:
        """Who is in each group; (n,) bool by name."""
        return images.groups(self.attribute, self.groups, self.outside)

    def group_of(self, images: LabelledSet) -> pl.Series:
        """The group of each image; null where it is in none."""
        return images.group_of(self.attribute, self.groups, self.outside)


class RepresentationBiasTask(Task):
    """Which value of an attribute a model prefers on images of anything, against target shares."""

    kind: Literal["representation_bias"]
    prompts: str
    targets: dict[str, float]

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        if self.targets.keys() != set(prompts.names):
            raise InputError(
                f"targets are of {', '.join(self.targets)}, prompts {prompts.name} of "
                f"{', '.join(prompts.names)}; give a target for each"
            )
        targets = {name: self.targets[name] for name in prompts.names}
        return representation_bias_draws(
            images.embeddings, prompts.embed(bench.encode_texts), targets, bench.resampling
        )


class AssociationBiasTask(GroupTask):
    """How much the preference between two prompts depends on who is in the image."""

    kind: Literal["association_bias"]
    prompts: str

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        return association_bias_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            prompts.names,
            prompts.pairs,
            self.members(images),
            bench.resampling,
        )


class AssociationsTask(GroupTask):
    """Which words of a category a model prefers for each group of people.

    `top` is how many images of each word the entropy of the groups is over.
    """

    kind: Literal["associations"]
    prompts: str
    top: int = Field(default=100, ge=2)

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        return associations_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            prompts.names,
            prompts.categories,
            self.members(images),
            bench.resampling,
            self.top,
        )


class MisclassificationTask(GroupTask):
    """How often people of each group are classified as something that demeans them."""

    kind: Literal["misclassification"]
    prompts: str
    harmful: tuple[str, ...] = Field(description="categories of the prompt set that do harm")

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        return misclassification_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            prompts.names,
            {name: prompts.categories[name] for name in self.harmful},
            self.members(images),
            bench.resampling,
        )


class RetrievalSkewTask(GroupTask):
    """Who is among the images that a model finds first for neutral queries.

    Attributes
    ----------
    k : of MaxSkew, and of Bias@K where there are two groups
    ndkl_k : of NDKL; None: the whole ranking
    reference : shares that the groups should have
    gallery : label; each prompt then searches only the images that have its name there
    first : of two groups, the one that Bias@K counts as positive
    """

    knows_compat: ClassVar[bool] = True
    kind: Literal["retrieval_skew"]
    prompts: str
    k: int = Field(default=1000, ge=1)
    ndkl_k: int | None = Field(default=None, ge=1)
    reference: Literal["uniform", "empirical"] | dict[str, float] = "uniform"
    gallery: str | None = None
    first: str | None = None

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        texts, positions = prompts.each()
        clusters = [prompts.names[position] for position in positions]
        galleries = None
        if self.gallery is not None:
            galleries = Galleries(images.column(self.gallery).to_list(), clusters)
        found = retrieval_skew(
            images.embeddings,
            encode(texts, f"prompts {prompts.name}", bench.encode_texts),
            self.group_of(images).to_list(),
            resampling=bench.resampling,
            k=self.k,
            ndkl_k=self.ndkl_k,
            reference=self.reference,
            clusters=clusters,
            galleries=galleries,
            first=self.first,
            compat=bench.compat,
        )
        measures = [found.max_skew, found.ndkl]
        measures += [each for each in (found.bias, found.absolute_bias) if each is not None]
        headlines = [each.mean for each in measures]
        headlines += [each.largest for each in measures if each.largest is not None]
        clusters = [each.clusters for each in measures if each.clusters is not None]
        return (*headlines, *clusters, *(each.each for each in measures))


class ResolutionTask(GroupTask):
    """Whether a model finds the pronoun of the person in the image, for each gender.

    Attributes
    ----------
    prompts : whose names are "occupation|pronoun"
    occupation : label that names an image's occupation
    pronouns : by gender, the two genders of the images first; what follows competes too
    """

    kind: Literal["resolution"]
    prompts: str
    occupation: str
    pronouns: dict[str, str]

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        rows = dict(zip(prompts.names, prompts.embed(bench.encode_texts), strict=True))
        gender = self.group_of(images)
        occupation = images.column(self.occupation)
        known = np.flatnonzero((gender.is_not_null() & occupation.is_not_null()).to_numpy())
        occupations = occupation[known].to_list()
        texts = {}
        for name in dict.fromkeys(occupations):
            wanted = [f"{name}|{pronoun}" for pronoun in self.pronouns.values()]
            if not rows.keys() >= set(wanted):
                raise InputError(
                    f"{images.name}: {self.occupation} {name!r} has no prompts {wanted} in "
                    f"{prompts.name}; leave its images out or add them"
                )
            texts[name] = np.stack([rows[each] for each in wanted])
        return resolution_draws(
            images.embeddings[known],
            texts,
            occupations,
            gender[known].to_list(),
            bench.resampling,
            tuple(self.pronouns),
        )


class WorstGroupTask(GroupTask):
    """Zero-shot accuracy in each cell of a label and a group."""

    kind: Literal["worst_group"]
    prompts: str
    label: str
    labels: dict[str, str] | None = None

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        prompts = load_prompt_set(self.prompts)
        shown = images.groups(self.label, self.labels or {each: each for each in prompts.names})
        groups = self.members(images)
        return worst_group_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            np.stack([shown[name] for name in prompts.names], axis=1),
            prompts.names,
            np.stack(list(groups.values()), axis=1),
            tuple(groups),
            bench.resampling,
        )


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

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        labels, prompts, shown = self._classes(images, bench)
        return zero_shot_draws(images.embeddings, prompts, shown, labels, bench.resampling)

    def _classes(
        self, images: LabelledSet, bench: Bench
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Names of the c classes, their embeddings (c, d), and who shows which, (n, c) bool."""
        prompts = None if self.prompts is None else load_prompt_set(self.prompts)
        if prompts is not None and prompts.names:
            shown = images.groups(self.label, {each: each for each in prompts.names})
            embedded = prompts.embed(bench.encode_texts)
            return prompts.names, embedded, np.stack(list(shown.values()), axis=1)
        templates = images.templates if prompts is None else prompts.templates
        if images.classes is None or templates is None:
            raise InputError(
                f"{images.name}: brings no class names and templates; give a data set of "
                "clip_benchmark (classnames.txt, zeroshot_classification_templates.txt), or name "
                "a prompt set with phrases in the protocol"
            )
        numbers = {str(number): str(number) for number in range(len(images.classes))}
        shown = images.groups(self.label, numbers)
        embedded = class_embedding(images.classes, templates, bench.encode_texts)
        return told_apart(images.classes), embedded, np.stack(list(shown.values()), axis=1)


class RetrievalTask(Task):
    """Retrieval of captions by images and of images by captions."""

    kind: Literal["retrieval"]
    ks: tuple[int, ...] = (1, 5, 10)

    def draws(self, images: LabelledSet, bench: Bench) -> tuple[Draws, ...]:
        captions = images.captions or ()
        captioned = np.flatnonzero([bool(own) for own in captions])
        if not len(captioned):
            raise InputError(f"{images.name}: no image has a caption; retrieval needs them")
        pairs = CaptionPairs.of([captions[row] for row in captioned])
        texts = encode(pairs.texts, "captions", bench.encode_texts)
        return retrieval_draws(
            images.embeddings[captioned], texts, pairs.pairs, bench.resampling, self.ks
        )


def told_apart(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, with their number where several share one: ImageNet has two "missile"."""
    times = Counter(classes)
    return tuple(
        f"{name} ({number})" if times[name] > 1 else name for number, name in enumerate(classes)
    )


def able_draws(accuracy: Draws, max_skew: Draws) -> Draws:
    """ABLE of two headline figures, resample by resample: `evaluation.rank_measures.able`.

    Interval: the two sets of images are resampled independently of each other. Null: what the
    model would reach if only its skew were that of a random ranking; a larger figure than the
    model's own is no sign of bias, so there is no p-value to read from it.
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
        images=accuracy.images + max_skew.images,
        better="higher",
        bounds=(0.0, 1.0),
    )


_able = np.vectorize(lambda accuracy, skew: able(accuracy=accuracy, max_skew=skew))

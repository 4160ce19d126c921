"""Tasks that measure bias: what a model prefers, and for whom."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from evaluation.bias import association_bias_draws, representation_bias_draws
from evaluation.harms import misclassification_draws
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import PromptSet, load_prompt_set
from evaluation.pronouns import resolution_draws
from evaluation.ranking import Galleries, retrieval_skew
from evaluation.tasks import Bench, GroupTask, Measured, Task, empty_cells, named, unknown_label
from evaluation.words import associations_draws
from m4.catalogue import TARGET_SUM_TOLERANCE, Share
from m4.errors import InputError
from vision.prompts import encode


class RepresentationBiasTask(Task):
    """Which value of an attribute a model prefers on images of anything, against target shares."""

    kind: Literal["representation_bias"]
    prompts: str
    targets: dict[str, Share]

    @field_validator("targets")
    @classmethod
    def _whole(cls, targets: dict[str, float]) -> dict[str, float]:
        total = sum(targets.values())
        if abs(total - 1) > TARGET_SUM_TOLERANCE:
            raise ValueError(f"they sum to {total:.6g}; give shares that sum to 1")
        return targets

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Raises `InputError` unless the targets are of what the prompts name."""
        prompts = load_prompt_set(self.prompts)
        if self.targets.keys() != set(prompts.names):
            raise InputError(
                f"targets are of {', '.join(self.targets)}, prompts {prompts.name} of "
                f"{', '.join(prompts.names)}; give a target for each"
            )
        targets = {name: self.targets[name] for name in prompts.names}
        by_value, largest = representation_bias_draws(
            images.embeddings, prompts.embed(bench.encode_texts), targets, bench.resampling
        )
        return Measured((largest,), (by_value,))


class AssociationBiasTask(GroupTask):
    """How much the preference between two prompts depends on who is in the image."""

    kind: Literal["association_bias"]
    prompts: str

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        prompts = load_prompt_set(self.prompts)
        by_pair, *headlines = association_bias_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            prompts.names,
            prompts.pairs,
            self.members(images),
            bench.resampling,
        )
        return Measured(
            tuple(headlines), (by_pair,), self.without_group(images), self.empty_groups(images)
        )


class AssociationsTask(GroupTask):
    """Which words of a category a model prefers for each group of people.

    `top` is how many images of each word the entropy of the groups is over.
    """

    kind: Literal["associations"]
    prompts: str
    top: int = Field(default=100, ge=2)

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        prompts = load_prompt_set(self.prompts)
        association, contrast, evenness, *headlines = associations_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            prompts.names,
            prompts.categories,
            self.members(images),
            bench.resampling,
            self.top,
        )
        return Measured(
            tuple(headlines),
            (association, contrast, evenness),
            self.without_group(images),
            self.empty_groups(images),
        )


class MisclassificationTask(GroupTask):
    """How often people of each group are classified as something that demeans them."""

    kind: Literal["misclassification"]
    prompts: str
    harmful: tuple[str, ...] = Field(description="categories of the prompt set that do harm")

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Raises `InputError` where `harmful` names what is no category of the prompts."""
        prompts = load_prompt_set(self.prompts)
        strange = [name for name in self.harmful if name not in prompts.categories]
        if strange:
            raise InputError(
                f"harmful: {strange[0]!r} is no category of prompts {prompts.name}; name some of "
                f"{', '.join(prompts.categories) or 'another set, as this one has none'}"
            )
        rates, *headlines = misclassification_draws(
            images.embeddings,
            prompts.embed(bench.encode_texts),
            prompts.names,
            {name: prompts.categories[name] for name in self.harmful},
            self.members(images),
            bench.resampling,
        )
        return Measured(
            tuple(headlines), (rates,), self.without_group(images), self.empty_groups(images)
        )


class RetrievalSkewTask(GroupTask):
    """Who is among the images that a model finds first for neutral queries.

    Attributes
    ----------
    k : of MaxSkew, and of Bias@K where there are two groups
    ndkl_k : of NDKL; None: the whole ranking
    reference : shares that the groups should have
    gallery : label that divides the images; a prompt then ranks only those whose label is the
        prompt's name, as "doctor". None: every prompt ranks all
    first, second : the two groups of Bias@K, which is positive where there are more of the first
    """

    knows_compat: ClassVar[bool] = True
    kind: Literal["retrieval_skew"]
    prompts: str
    k: int = Field(default=1000, ge=1)
    ndkl_k: int | None = Field(default=None, ge=1)
    reference: Literal["uniform", "empirical"] | dict[str, float] = "uniform"
    gallery: str | None = None
    first: str | None = None
    second: str | None = None

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """The headlines are means over the prompts, then the largest."""
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
            second=self.second,
            compat=bench.compat,
        )
        measures = [found.max_skew, found.ndkl, found.min_skew]
        measures += [each for each in (found.bias, found.absolute_bias) if each is not None]
        headlines = [each.mean for each in measures]
        headlines += [each.largest for each in measures if each.largest is not None]
        by_cluster = [each.clusters for each in measures if each.clusters is not None]
        left_out = self.without_group(images)
        nowhere = found.unknown - sum(left_out.values())
        if self.gallery is not None:
            left_out |= named({unknown_label(self.gallery): nowhere})
        return Measured(
            tuple(headlines),
            (*by_cluster, *(each.each for each in measures)),
            left_out,
            self.empty_groups(images),
        )


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

    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """Raises `InputError` where an occupation has no prompts.

        `empty` has the occupations that lack a gender: they have no bias of their own.
        """
        prompts = load_prompt_set(self.prompts)
        gender = self.group_of(images)
        occupation = images.column(self.occupation)
        known = np.flatnonzero((gender.is_not_null() & occupation.is_not_null()).to_numpy())
        occupations, genders = occupation[known].to_list(), gender[known].to_list()
        names = tuple(dict.fromkeys(occupations))
        *tables, bias, accuracy = resolution_draws(
            images.embeddings[known],
            self._texts(prompts, names, images.name, bench),
            occupations,
            genders,
            bench.resampling,
            tuple(self.pronouns),
        )
        left_out = self.without_group(images)
        unknown = len(images) - len(known) - sum(left_out.values())
        left_out |= named({unknown_label(self.occupation): unknown})
        shown = np.array(occupations)[:, None] == np.array(names)
        members = {each: np.array(genders) == each for each in tuple(self.pronouns)[:2]}
        return Measured(
            (bias, accuracy), tuple(tables), left_out, empty_cells(shown, names, members)
        )

    def _texts(
        self, prompts: PromptSet, occupations: tuple[str, ...], of: str, bench: Bench
    ) -> dict[str, np.ndarray]:
        """Embeddings of the texts of each occupation, (pronouns, d)."""
        rows = dict(zip(prompts.names, prompts.embed(bench.encode_texts), strict=True))
        texts = {}
        for name in occupations:
            wanted = [f"{name}|{pronoun}" for pronoun in self.pronouns.values()]
            if not rows.keys() >= set(wanted):
                raise InputError(
                    f"{of}: {self.occupation} {name!r} has no prompts {wanted} in "
                    f"{prompts.name}; leave its images out or add them"
                )
            texts[name] = np.stack([rows[each] for each in wanted])
        return texts

"""Prompt sets: the words by which a protocol asks a model, pinned, and where they stand.

A set is a YAML file, built in (`evaluation/prompts`) or a user's own:

    name: two-jobs
    source: ours                                  # paper, and where the list stands; what is ours
    templates: ["a photo of {}"]
    phrases:                                      # the words in place of {}, by name
      nurse: a nurse
      doctor: [a doctor, a physician]
    categories: {medicine: [nurse, doctor]}       # may be left out; may overlap
    pairs: [[nurse, doctor]]                      # may be left out

A name of several parts joins them by "|", as "doctor|his" of VisoGender's candidate captions; a
category then gathers the names that share a part. Where the data set names the classes, as in
zero-shot classification, a set has templates alone.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError
from vision.prompts import TextEncoder, checked_templates, mark_embedding

FOLDER = Path(str(files("evaluation"))) / "prompts"

Text = Annotated[str, StringConstraints(pattern=r"\S")]


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Phrases = Annotated[tuple[Text, ...], Field(min_length=1), BeforeValidator(_several)]


class PromptSet(Model):
    """Words to ask a model by.

    Attributes
    ----------
    name, source : of the set; the source says what is published, recalled or ours
    templates : prompts with one {} each
    phrases : by name, the words that stand in place of {}
    categories : names that belong together; a name may be in several
    pairs : names to compare
    """

    name: Text
    source: Text
    templates: tuple[str, ...]
    phrases: dict[Text, Phrases] = Field(default_factory=dict)
    categories: dict[Text, tuple[str, ...]] = Field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()

    @field_validator("templates")
    @classmethod
    def _templates(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        _distinct(templates)
        return checked_templates(templates)

    @model_validator(mode="after")
    def _names(self) -> "PromptSet":
        for name, phrases in self.phrases.items():
            _distinct(phrases, f"phrases of {name}: ")
        for category, names in self.categories.items():
            if not names:
                raise ValueError(f"category {category} is empty; name at least one, or remove it")
            _distinct(names, f"category {category}: ")
            self._check_known(names, f"category {category}")
        for pair in self.pairs:
            self._check_known(pair, "pairs")
            if pair[0] == pair[1]:
                raise ValueError(f"pairs: {pair[0]!r} is paired with itself; give two names")
        _distinct([" and ".join(sorted(pair)) for pair in self.pairs], "pairs: ")
        return self

    def _check_known(self, names: Iterable[str], where: str) -> None:
        unknown = [name for name in names if name not in self.phrases]
        if unknown:
            raise ValueError(f"{where}: {unknown[0]!r} has no phrase; add it to `phrases`")

    @property
    def names(self) -> tuple[str, ...]:
        """What is asked for, in the order of `embed`'s rows."""
        return tuple(self.phrases)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is asked: of all but the name and the source."""
        content = self.model_dump(mode="json", exclude={"name", "source"})
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def each(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Every prompt by itself, for protocols that rank images by each: texts and clusters.

        Returns t texts, every template with every phrase, and (t,) int: the position in `names`
        of what a text asks for, since prompts for one thing are not independent of each other.
        Raises `InputError` where the set has templates alone.
        """
        flat = [
            (phrase, position)
            for position, phrases in enumerate(self._phrases())
            for phrase in phrases
        ]
        texts = tuple(
            template.replace("{}", phrase) for template in self.templates for phrase, _ in flat
        )
        return texts, np.tile([position for _, position in flat], len(self.templates))

    def embed(self, encode_texts: TextEncoder) -> np.ndarray:
        """Embed each name as the ensemble of its prompts, (k, d), of unit length.

        As `vision.prompts.mark_embedding`, and with its errors; raises `InputError` where the set
        has templates alone.
        """
        return mark_embedding(self._phrases(), self.templates, encode_texts)

    def _phrases(self) -> list[tuple[str, ...]]:
        if not self.phrases:
            raise InputError(
                f"prompt set {self.name} has templates and no phrases; it serves data sets that "
                "name their classes: choose another set, or add `phrases`"
            )
        return list(self.phrases.values())


def built_in_prompt_sets() -> tuple[str, ...]:
    """Names of the sets that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_prompt_set(name_or_path: str | Path) -> PromptSet:
    """Read a built-in set by its name, or a user's by the path of its YAML file.

    Raises `InputError` naming the file, the key and what is wrong with it.
    """
    known = built_in_prompt_sets()
    path = FOLDER / f"{name_or_path}.yaml" if str(name_or_path) in known else Path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"no prompt set {str(name_or_path)!r}: no such file, and the built-in ones are "
            f"{', '.join(known)}"
        )
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a prompt set is a mapping with `name`, `source`, `templates`")
    try:
        return PromptSet.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def _distinct(given: Iterable[str], where: str = "") -> None:
    twice = [text for text, count in Counter(given).items() if count > 1]
    if twice:
        raise ValueError(f"{where}{twice[0]!r} is given twice; keep one")

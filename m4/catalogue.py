"""The catalogue: what to balance, towards which shares, and how it is found."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from m4.errors import InputError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[\w][\w -]*$")]

TARGET_SUM_TOLERANCE = 1e-6
LONGEST_GIVEN = 60  # characters of what was given that an error repeats

# The loader and dumper in C are ten times as fast, where PyYAML was built with them.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Model(BaseModel):
    """An immutable, validated record; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldRule(Model):
    """Reads a mark from the sample's json, or from a table that is joined by uid.

    `path` is a dotted path into the json, or a column of the table. With `equals`, the mark holds
    where the field (or any element of it, if it is a list) is one of the given values; with
    `filled`, where it is a list that is not empty, such as DataComp's `face_bboxes`, and an empty
    one says nothing. With neither, the field itself is a probability in [0, 1]. A field that is
    missing or null says nothing.
    """

    path: str
    equals: tuple[str | int | bool, ...] | None = None
    filled: bool = False

    @model_validator(mode="after")
    def _one_test(self) -> "FieldRule":
        if self.filled and self.equals is not None:
            raise ValueError("`equals` and `filled` are two tests; keep one")
        return self


class Translation(Model):
    """The terms of a mark in another language, every inflected form written out."""

    terms: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class Mark(Model):
    """How one thing (a value, a label or a proxy) is found, and how a prompt names it.

    Attributes
    ----------
    terms : words or phrases of English captions, in the singular
    ignore : longer phrases that contain a term but do not mean it ("chef's knife")
    names : given names, which count as terms only where the user says so
    translations : terms of captions in other languages, by ISO 639-1 code
    field : where the sample's json or a table says it
    prompt : noun phrase for zero-shot prompts; the name with an article where it is left out
    prompts : further noun phrases for the same thing
    """

    terms: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    translations: dict[str, Translation] = Field(default_factory=dict)
    field: FieldRule | None = None
    prompt: str | None = None
    prompts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _findable(self) -> "Mark":
        if not (self.terms or self.field or self.prompt or self.prompts):
            raise ValueError("give `terms`, `field` or `prompt`: nothing says how to find it")
        return self


class Presence(Mark):
    """How one finds out that a picture shows a person at all, whoever it is.

    `absent_prompts` are noun phrases of pictures without people.
    """

    absent_prompts: tuple[str, ...] = ()


class Value(Mark):
    """One value of a sensitive attribute and the share it should have."""

    target: Share


class Concept(Mark):
    """A label or a proxy. `targets` overrides the share of single values among its examples."""

    targets: dict[str, Share] = Field(default_factory=dict)


class Attribute(Model):
    """A sensitive attribute, as perceived, with its values.

    Values of an exclusive attribute share one picture: where evidence for several is found (a man
    and a woman), each gets an equal part of the probability, and the targets sum to 1. Values of
    an attribute that is not exclusive are separate yes/no questions, each with its own target.
    """

    describes: str
    values: dict[Name, Value] = Field(min_length=1)
    exclusive: bool = True

    @model_validator(mode="after")
    def _targets(self) -> "Attribute":
        total = sum(value.target for value in self.values.values())
        if self.exclusive and abs(total - 1.0) > TARGET_SUM_TOLERANCE:
            raise ValueError(
                f"the targets of {', '.join(self.values)} sum to {total:.6g}, not to 1; change a "
                "target, or set `exclusive: false` if the values are separate questions"
            )
        return self


class Crossing(Model):
    """Two attributes whose values are also balanced jointly: all pairs of a value of each.

    `targets` overrides single shares, by the second attribute's value in the first's; a pair's
    share is the product of its values' targets where it is left out.
    """

    attributes: tuple[Name, Name]
    targets: dict[str, dict[str, Share]] = Field(default_factory=dict)


class Tolerances(Model):
    """How far the balanced data may be from its targets (methods: eps_R, eps_D)."""

    mode: Literal["relative", "absolute"] = "relative"
    representation: float = Field(default=0.01, ge=0.0, allow_inf_nan=False)
    association: float = Field(default=0.01, ge=0.0, allow_inf_nan=False)
    intersection: float = Field(default=0.01, ge=0.0, allow_inf_nan=False)


class Catalogue(Model):
    """What to balance. Immutable; `digest` identifies its content and travels with its products.

    `surnames` are terms that are also family names: "Tom Baker" is no baker.
    """

    name: str
    purpose: str
    sensitive: dict[Name, Attribute] = Field(min_length=1)
    labels: dict[Name, Concept] = Field(default_factory=dict)
    proxies: dict[Name, Concept] = Field(default_factory=dict)
    tolerances: Tolerances = Tolerances()
    leave_out: tuple[tuple[str, str], ...] = ()
    intersections: tuple[Crossing, ...] = ()
    person: Presence | None = None
    surnames: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> "Catalogue":
        if self.person is not None and "person" in self.concepts:
            raise ValueError("person: also a label or proxy; rename that, or leave `person` out")
        twice = set(self.labels) & set(self.proxies)
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))}: both a label and a proxy; keep one")
        known = set(self.value_names)
        for value, label in self.leave_out:
            if value not in known:
                raise ValueError(f"leave_out: no value {value!r}; known: {sorted(known)}")
            if label not in self.concepts:
                raise ValueError(f"leave_out: no label or proxy {label!r}")
        for label, concept in self.concepts.items():
            for value in concept.targets:
                if value not in known:
                    raise ValueError(
                        f"{label}: targets: no value {value!r}; known: {sorted(known)}"
                    )
        return self

    @model_validator(mode="after")
    def _crossings(self) -> "Catalogue":
        pairs = [frozenset(crossing.attributes) for crossing in self.intersections]
        for crossing, pair in zip(self.intersections, pairs, strict=True):
            where = f"intersections: {' x '.join(crossing.attributes)}"
            if len(pair) < 2 or not pair <= set(self.sensitive) or pairs.count(pair) > 1:
                raise ValueError(f"{where} must name two sensitive attributes, once")
            first, second = (self.sensitive[name].values for name in crossing.attributes)
            for value, shares in crossing.targets.items():
                unknown = ({value} - set(first)) | (set(shares) - set(second))
                if unknown:
                    raise ValueError(f"{where}: targets: no value {sorted(unknown)[0]!r}")
        return self

    def joint_targets(self) -> Iterator[tuple[str, str, float]]:
        """Yield (value, value, target of their joint share) of all intersections."""
        for crossing in self.intersections:
            first, second = crossing.attributes
            for one, mine in self.sensitive[first].values.items():
                for other, its in self.sensitive[second].values.items():
                    share = crossing.targets.get(one, {}).get(other, mine.target * its.target)
                    yield f"{first}.{one}", f"{second}.{other}", share

    def each_value(self) -> Iterator[tuple[str, str, Value]]:
        """Yield (full name, attribute name, value), in the order of all arrays and columns."""
        for name, attribute in self.sensitive.items():
            for value_name, value in attribute.values.items():
                yield f"{name}.{value_name}", name, value

    @cached_property
    def value_names(self) -> tuple[str, ...]:
        """Full names of all sensitive values, "gender.woman", in column order; m of them."""
        return tuple(name for name, _, _ in self.each_value())

    @cached_property
    def concepts(self) -> Mapping[str, Concept]:
        """Labels, then proxies; the position is the id in annotations; c of them."""
        return {**self.labels, **self.proxies}

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        return tuple(self.concepts)

    @cached_property
    def targets(self) -> np.ndarray:
        """Target shares pi_k, (m,)."""
        return np.array([value.target for _, _, value in self.each_value()])

    @cached_property
    def label_targets(self) -> np.ndarray:
        """Target shares pi_kr among the examples of label r, (m, c); pi_k where not overridden."""
        table = np.repeat(self.targets[:, None], len(self.concepts), axis=1)
        row = {name: k for k, name in enumerate(self.value_names)}
        for r, concept in enumerate(self.concepts.values()):
            for value, share in concept.targets.items():
                table[row[value], r] = share
        return table

    @cached_property
    def left_out(self) -> np.ndarray:
        """True where the pair (k, r) is left out on purpose, (m, c)."""
        pairs = set(self.leave_out)
        return np.array(
            [[(value, label) in pairs for label in self.concepts] for value in self.value_names],
            dtype=bool,
        ).reshape(len(self.value_names), len(self.concepts))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, independent of the order and layout of the YAML's scalars."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def each_mark(self) -> Iterator[tuple[str, Mark]]:
        """Yield (name, mark) of all values, labels, proxies, and of `person` where it is there."""
        for name, _, value in self.each_value():
            yield name, value
        yield from self.concepts.items()
        if self.person is not None:
            yield "person", self.person

    def to_yaml(self) -> str:
        """The content as YAML that stands alone, and that reads back to the same digest."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: Path) -> None:
        """Write it as YAML that `load_catalogue` reads back to the same digest."""
        path.write_text(self.to_yaml(), "utf-8")


def explain(error: ValidationError) -> str:
    """One sentence for the first thing wrong in a settings or catalogue file."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key `{where}`; remove it or correct its spelling"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    # Of what is no JSON at all, the whole file is given.
    shown = first["type"] != "json_invalid" and isinstance(given, str | int | float | bool)
    said = f"{message} (given {_cut(repr(given))})" if shown else message
    return f"{where}: {said}" if where else said


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_GIVEN else f"{text[:LONGEST_GIVEN]}..."


class _UniqueKeys(_Loader):
    """A YAML loader that refuses a repeated key, where the plain one silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"repeated key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Content of a YAML file; raises `InputError` naming the file and line if it cannot be read."""
    try:
        return yaml.load(path.read_text("utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def load_catalogue(path: Path | str) -> Catalogue:
    """Read a catalogue from YAML, with the lists that it includes; or a built-in, "builtin:people".

    Raises `InputError` naming the file, the key and what is wrong with it.
    """
    from m4.lists import builtin_path, with_lists

    path = builtin_path(str(path)) or Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a catalogue is a mapping with `name`, `purpose`, `sensitive`")
    content = with_lists(content, path)
    try:
        return Catalogue.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None

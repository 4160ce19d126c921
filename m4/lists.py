"""Lists of values, labels and proxies that catalogues include: built-in ones, or one's own.

A list is a YAML file: what `kind` of thing it lists, what it `describes`, from which `source`, and
its `entries` by name, written as a catalogue writes them. A catalogue says which it takes:

    include:
    - gender                                         # a built-in list
    - ./our-products.yaml                            # a file beside the catalogue
    - {list: occupations, only: [nurse, carpenter], targets: measured}

What the catalogue itself says under the same name replaces an entry. The entries of a built-in
list about occupations carry shares that labour statistics `measured`; `targets: measured` makes
them targets. Lists of kind `translation` add terms of another language to marks that are there.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from m4.catalogue import (
    Attribute,
    Concept,
    Model,
    Name,
    Presence,
    Share,
    Translation,
    explain,
    read_yaml,
)
from m4.errors import InputError

BUILTIN = "builtin:"
FOLDER = Path(str(files("m4"))) / "catalogues"
ENTRIES = re.compile("^entries:", re.MULTILINE)

Kind = Literal["sensitive", "labels", "proxies", "person", "translation"]


class ListedConcept(Concept):
    """A label or proxy of a list. `measured`: shares of values that the list's source gives."""

    measured: dict[str, Share] = Field(default_factory=dict)


_ENTRIES: dict[Kind, TypeAdapter] = {
    "sensitive": TypeAdapter(dict[Name, Attribute]),
    "labels": TypeAdapter(dict[Name, ListedConcept]),
    "proxies": TypeAdapter(dict[Name, ListedConcept]),
    "person": TypeAdapter(dict[Literal["person"], Presence]),
    "translation": TypeAdapter(dict[str, Translation]),
}


class MarkList(Model):
    """A list file.

    Attributes
    ----------
    kind : what its entries are
    describes, source : what they have in common, and where they and their figures come from
    language : of a translation, an ISO 639-1 code
    surnames : terms of its entries that are also family names
    entries : by name, as the file writes them
    """

    kind: Kind
    describes: str
    source: str
    language: str | None = Field(default=None, pattern="^[a-z]{2}$")
    surnames: tuple[str, ...] = ()
    entries: dict[str, dict[str, Any]] = Field(min_length=1)


class Include(Model):
    """Which list a catalogue takes, and what of it.

    Attributes
    ----------
    list : name of a built-in list, or path of a YAML file beside the catalogue
    kind : labels as proxies, or proxies as labels; as the list says where it is left out
    only, without : names of entries that are taken, or left
    targets : "measured" makes the shares that the list's source measured targets
    """

    list: str
    kind: Literal["labels", "proxies"] | None = None
    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    targets: Literal["measured"] | None = None


@dataclass(frozen=True)
class Taken:
    """What a catalogue takes of a list: its entries, and the surnames among their terms."""

    name: str
    kind: Kind
    language: str | None
    entries: Mapping[str, dict[str, Any]]
    surnames: Sequence[str]


def builtin_names() -> Iterator[tuple[str, bool]]:
    """Yield the names of built-in files, and whether it is a catalogue; else it is a list."""
    for path in sorted(FOLDER.glob("*.yaml")):
        yield path.stem, ENTRIES.search(path.read_text("utf-8")) is None


def builtin_path(name: str) -> Path | None:
    """The file of "builtin:NAME", or None for any other name. Raises `InputError`."""
    if not name.startswith(BUILTIN):
        return None
    path = FOLDER / f"{name.removeprefix(BUILTIN)}.yaml"
    known = [BUILTIN + each for each, is_catalogue in builtin_names() if is_catalogue]
    if name not in known:
        raise InputError(f"{name}: no such built-in catalogue; known: {', '.join(known)}")
    return path


def load_list(name: str, beside: Path) -> MarkList:
    """Read a list: a built-in one by its name, or a YAML file, relative to the folder `beside`.

    Raises `InputError` naming the file, the key and what is wrong with it.
    """
    path = FOLDER / f"{name}.yaml" if name.isidentifier() else beside / name
    if not path.is_file():
        known = ", ".join(each for each, is_catalogue in builtin_names() if not is_catalogue)
        raise InputError(f"no list {name!r}: no file {path}; built in are {known}")
    content = read_yaml(path)
    if not isinstance(content, dict) or "entries" not in content:
        raise InputError(f"{path}: a list is a mapping with `kind`, `source`, ..., and `entries`")
    try:
        found = MarkList.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None
    try:
        _ENTRIES[found.kind].validate_python(found.entries)
    except ValidationError as error:
        raise InputError(f"{path}: entries: {explain(error)}") from None
    if (found.language is None) == (found.kind == "translation"):
        raise InputError(f"{path}: a translation, and nothing else, has a `language`")
    strange = set(found.surnames) - _terms(found.kind, found.entries)
    if strange:
        raise InputError(f"{path}: surnames: {sorted(strange)[0]!r} is no term of the entries")
    return found


def with_lists(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A catalogue's content with its `include` replaced by what the lists hold.

    What is wrong with the rest of the content stays as it is, for the catalogue to complain of.

    Raises `InputError` where a list is not there or damaged, two hold an entry of one name, or an
    option has no effect.
    """
    merged = copy.deepcopy({key: value for key, value in content.items() if key != "include"})
    wanted = content.get("include")
    if not isinstance(wanted, list | None):
        raise InputError(f"{path}: include: give a list, such as [gender, occupations]")
    try:
        lists = [_take(given, path.parent) for given in wanted or ()]
        _refuse_repeats(lists)
    except InputError as error:
        raise InputError(f"{path}: include: {error}") from None
    included: dict[str, dict[str, Any]] = {}
    for each in lists:
        if each.kind == "person":
            merged.setdefault("person", each.entries["person"])
        elif each.kind != "translation":
            included.setdefault(each.kind, {}).update(each.entries)
    for kind, entries in included.items():
        own = merged.get(kind) or {}
        if isinstance(own, dict):
            merged[kind] = {**entries, **own}
    for each in lists:
        if each.kind == "translation":
            _translate(merged, each)
    surnames = [surname for each in lists for surname in each.surnames]
    own = merged.get("surnames") or []
    if surnames and isinstance(own, list):
        merged["surnames"] = list(dict.fromkeys([*own, *surnames]))
    return merged


def _take(given: Any, beside: Path) -> Taken:
    """What is taken of a list, with the measured shares as targets, or without them."""
    try:
        include = Include.model_validate({"list": given} if isinstance(given, str) else given)
    except ValidationError as error:
        raise InputError(explain(error)) from None
    found = load_list(include.list, beside)
    for name in (*(include.only or ()), *include.without):
        if name not in found.entries:
            raise InputError(f"{include.list} has no entry {name!r}")
    if include.kind is not None and found.kind not in ("labels", "proxies"):
        raise InputError(f"{include.list} lists {found.kind}; `kind` has no effect on it")
    entries: dict[str, dict[str, Any]] = {}
    measured = 0
    for name, entry in found.entries.items():
        if name in include.without or (include.only is not None and name not in include.only):
            continue
        entries[name] = {key: value for key, value in entry.items() if key != "measured"}
        if include.targets and entry.get("measured"):
            entries[name]["targets"] = entry["measured"]
            measured += 1
    if not entries:
        raise InputError(f"nothing is taken of {include.list}; take more, or leave the list out")
    if include.targets and not measured:
        raise InputError(f"{include.list}: nothing taken has measured shares; leave `targets` out")
    terms = _terms(found.kind, entries)
    surnames = tuple(surname for surname in found.surnames if surname in terms)
    return Taken(include.list, include.kind or found.kind, found.language, entries, surnames)


def _terms(kind: Kind, entries: Mapping[str, dict[str, Any]]) -> set[str]:
    """All terms of entries, as they are written."""
    marks = list(entries.values())
    if kind == "sensitive":
        marks = [value for attribute in marks for value in attribute["values"].values()]
    return {term for mark in marks for term in mark.get("terms") or ()}


def _refuse_repeats(lists: Sequence[Taken]) -> None:
    """Of two lists that hold an entry of one name, in one language, neither wins."""
    homes: dict[tuple[str, str | None], str] = {}
    for each in lists:
        for name in each.entries:
            if (name, each.language) in homes:
                other = homes[name, each.language]
                raise InputError(f"{name!r} stands in {other} and in {each.name}; leave one out")
            homes[name, each.language] = each.name


def _translate(content: dict[str, Any], translation: Taken) -> None:
    """Add the terms of a language to the marks that are there, unless these have their own."""
    for name, entry in translation.entries.items():
        attribute, _, value = name.partition(".")
        places = [("labels", name), ("proxies", name), ("sensitive", attribute, "values", value)]
        if name == "person":
            places.append(("person",))
        for place in places:
            mark = _at(content, place)
            own = _at(mark, ("translations",)) or {}
            if isinstance(mark, dict) and isinstance(own, dict):
                mark["translations"] = {translation.language: entry, **own}


def _at(content: Any, path: Sequence[str]) -> Any:
    """What stands under nested keys, or None."""
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content

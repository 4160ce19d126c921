"""m4-balance catalogue: what a catalogue or a built-in list holds, and what is suspicious in it."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from commands.console import Shown, console
from m4.catalogue import Catalogue, Mark, load_catalogue, read_yaml
from m4.errors import InputError
from m4.lists import BUILTIN, FOLDER, MarkList, builtin_names, load_list
from pipelines.captions.check import check_catalogue

SHOWN = 12  # terms or marks that a cell names


def command(
    action: Annotated[tyro.conf.Positional[Literal["show", "check"]], tyro.conf.arg()],
    name: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            help="YAML file, builtin:NAME, or the name of a built-in list; without it, show names "
            "all that is built in, and check takes builtin:people"
        ),
    ] = "",
    /,
    yaml: bool = False,
    shown: Shown = Shown(),
) -> int:
    """Show what a catalogue or list holds, or check a catalogue for what is suspicious.

    `check` ends with 1 where it finds a mistake: something that never does what was meant.

    Parameters
    ----------
    yaml : print it as YAML, whole, to be edited: a catalogue with all that it includes
    """
    if yaml and (action == "check" or not name or shown.json):
        raise InputError("--yaml goes with `catalogue show NAME`, without --json; leave it out")
    if action == "check":
        return _check(_find_catalogue(name or f"{BUILTIN}people"), shown)
    path = _list_path(name) if name else None
    if not name:
        _show_all(shown)
    elif path is not None:
        _show_list(path, yaml, shown)
    else:
        _show_catalogue(_find_catalogue(name), yaml, shown)
    return 0


def _list_path(name: str) -> Path | None:
    """The file of a list, built-in or one's own; None where the name is not that of a list."""
    path = FOLDER / f"{name}.yaml" if name.isidentifier() else Path(name)
    if name.startswith(BUILTIN) or not path.is_file():
        return None
    content = read_yaml(path)
    return path if isinstance(content, dict) and "entries" in content else None


def _find_catalogue(name: str) -> Catalogue:
    """The catalogue of a file or a built-in one, with its prefix or without."""
    if _list_path(name) is not None:
        raise InputError(f"{name} is a list, not a catalogue; name a catalogue that includes it")
    builtin = dict(builtin_names())
    if name.isidentifier() and not Path(name).exists():
        if name not in builtin:
            raise InputError(f"{name}: no such file, and not built in; known: {', '.join(builtin)}")
        return load_catalogue(BUILTIN + name)
    return load_catalogue(name)


def _check(catalogue: Catalogue, shown: Shown) -> int:
    found = check_catalogue(catalogue)
    mistakes = sum(each.level == "mistake" for each in found)
    notes = len(found) - mistakes
    says = f"mistakes: {mistakes:,}, notes: {notes:,}" if found else "nothing suspicious was found"
    rows = [(each.where, each.level, each.says) for each in found]
    content = {"digest": catalogue.digest, "findings": [each.model_dump() for each in found]}
    _tell(
        shown,
        content,
        f"{catalogue.name}, {catalogue.digest}\n{says}",
        *([_table(("where", "level", "says"), rows)] if found else []),
    )
    return int(mistakes > 0)


def _show_all(shown: Shown) -> None:
    rows, content = [], {}
    for name, is_catalogue in sorted(builtin_names(), key=lambda each: not each[1]):
        if is_catalogue:
            catalogue = load_catalogue(BUILTIN + name)
            kind, says = "catalogue", catalogue.purpose
            entries = len(catalogue.value_names) + len(catalogue.label_names)
            name = BUILTIN + name
        else:
            found = load_list(name, FOLDER)
            kind, says, entries = _kind(found), found.describes, len(found.entries)
        says = _one_line(says)
        rows.append((name, kind, f"{entries:,}", says))
        content[name] = {"kind": kind, "entries": entries, "describes": says}
    columns = ("name", "kind", "entries", "describes")
    _tell(shown, content, "Built-in catalogues and lists", _table(columns, rows, "entries"))


def _show_list(path: Path, yaml: bool, shown: Shown) -> None:
    if yaml:
        sys.stdout.write(path.read_text("utf-8"))
        return
    found = load_list(str(path.absolute()), FOLDER)
    shares = {
        name: ", ".join(
            f"{value.partition('.')[2]} {share:.1%}" for value, share in measured.items()
        )
        for name, entry in found.entries.items()
        if (measured := entry.get("measured"))
    }
    rows = [
        (name, _some(mark.get("terms", ())), *([shares.get(name, "")] if shares else []))
        for name, mark in _marks(found)
    ]
    number = f"{len(found.entries):,} {'entry' if len(found.entries) == 1 else 'entries'}"
    title = f"{path.stem} ({_kind(found)}, {number}): {_one_line(found.describes)}"
    columns = ("entry", "terms", *(["measured shares"] if shares else []))
    source = f"source: {_one_line(found.source)}"
    _tell(shown, found.model_dump(mode="json"), title, _table(columns, rows), source)


def _marks(found: MarkList) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (name, mark) of a list's entries, of attributes each value."""
    for name, entry in found.entries.items():
        if found.kind == "sensitive":
            for value, mark in entry["values"].items():
                yield f"{name}.{value}", mark
        else:
            yield name, entry


def _show_catalogue(catalogue: Catalogue, yaml: bool, shown: Shown) -> None:
    if yaml:
        sys.stdout.write(catalogue.to_yaml())
        return
    content = {"digest": catalogue.digest, **catalogue.model_dump(mode="json")}
    languages = {language for _, mark in catalogue.each_mark() for language in mark.translations}
    title = f"{catalogue.name}, {catalogue.digest}\n{_one_line(catalogue.purpose)}"
    also = [f"Terms also in: {', '.join(sorted(languages))}"] if languages else []
    _tell(shown, content, title, _summary(catalogue), *also)


def _summary(catalogue: Catalogue) -> Table:
    """What a catalogue looks for."""
    rows = []
    for name, attribute in catalogue.sensitive.items():
        values = [f"{value} {each.target:.3g}" for value, each in attribute.values.items()]
        terms = _count_terms(attribute.values.values())
        rows.append((name, _one_line(attribute.describes), terms, ", ".join(values)))
    for kind, concepts in (("labels", catalogue.labels), ("proxies", catalogue.proxies)):
        if not concepts:
            continue
        terms = _count_terms(concepts.values())
        rows.append((kind, f"{len(concepts):,} of them", terms, _some(list(concepts))))
    if catalogue.person is not None:
        terms = _count_terms([catalogue.person])
        rows.append(("person", "whether anybody is there", terms, _some(catalogue.person.terms)))
    return _table(("what", "describes", "terms", "values, or examples"), rows, "terms")


def _count_terms(marks: Iterable[Mark]) -> str:
    return f"{sum(len(mark.terms) for mark in marks):,}"


def _some(words: Sequence[str]) -> str:
    """The first of many words, and how many more there are."""
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f", and {more:,} more" if more > 0 else "")


def _kind(found: MarkList) -> str:
    return found.kind + (f" to {found.language}" if found.language else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], counts: str = "") -> Table:
    """A table of texts, in which brackets are brackets; the column `counts` holds numbers."""
    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == counts else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _tell(shown: Shown, content: Any, *parts: str | Table) -> None:
    """Print texts and tables for a person, or the content as JSON."""
    if shown.json:
        shown.result(content)
        return
    for part in parts:
        console.print(part, highlight=False)

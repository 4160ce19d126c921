"""m4-balance evidence: what the marks of a run rest on."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from commands.console import Shown, table_of
from m4.errors import InputError
from pipelines import storage
from pipelines.evidence import UNKNOWN, Counts, Evidence, read_evidence

SMALLEST = 20  # tables give no smaller counts: they may point at single people


@dataclass(frozen=True)
class EvidenceSettings:
    """Which run, and how much of it is shown.

    Attributes
    ----------
    run : run directory that `annotate` has written
    mark : show the terms of one mark only, such as gender.woman or nurse
    top : marks, and terms of each, that are shown
    """

    run: str
    mark: str | None = None
    top: int = 15


def command(settings: EvidenceSettings, shown: Shown = Shown()) -> None:
    """Show which terms make which share of the marks, how annotators agree, what is not known."""
    evidence = read_evidence(storage.join(settings.run, "evidence.json"))
    if settings.top < 1:
        raise InputError(f"--top {settings.top}: show at least 1")
    if settings.mark is not None:
        if settings.mark not in evidence.terms:
            marks = ", ".join(_by_count(evidence)[:20]) or "none"
            raise InputError(
                f"{settings.run}: no term marked {settings.mark!r}; marks with terms: {marks}"
            )
        evidence = Evidence(terms={settings.mark: evidence.terms[settings.mark]})
    content = evidence.model_dump(mode="json", exclude_defaults=settings.mark is not None)
    shown.result(content, *tables(evidence, settings.top))


def tables(evidence: Evidence, top: int) -> list[Table]:
    """Terms, then what is known of labels, languages, agreement and notes; what is there of it."""
    found = []
    if evidence.terms:
        found.append(terms_table(evidence, top))
    if evidence.known:
        found.append(known_table(evidence, top))
    if evidence.languages:
        found.append(_counts("Languages of captions", "language", evidence.languages))
    found += [
        _matrix(subject, pair, table)
        for subject, pairs in evidence.opinions.items()
        for pair, table in pairs.items()
    ]
    if evidence.notes:
        found.append(_counts("Noted", "what", evidence.notes))
    return found


def terms_table(evidence: Evidence, top: int) -> Table:
    """For the marks found most often, the share of each of their terms among the finds."""
    table = Table(title="Which terms mark what", title_justify="left", header_style="bold")
    table.add_column("mark")
    table.add_column("finds", justify="right")
    table.add_column("terms and their share of the finds")
    for name in _by_count(evidence)[:top]:
        counts = evidence.terms[name]
        table.add_row(name, _number(sum(counts.values())), _shares(counts, top))
    return table


def _by_count(evidence: Evidence) -> list[str]:
    """Marks with terms, the most often found first."""
    return sorted(evidence.terms, key=lambda name: (-sum(evidence.terms[name].values()), name))


def _shares(counts: Counts, top: int) -> str:
    """Shares of the most common terms, then what is left; none for counts that are not shown."""
    total = sum(counts.values())
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [(term, count) for term, count in common[:top] if count >= SMALLEST]
    left = len(counts) - len(shown)
    parts = [f"{term} {_percent(count / total)}" for term, count in shown]
    if left:
        rest = total - sum(count for _, count in shown)
        share = f" {_percent(rest / total)}" if rest >= SMALLEST else ""
        parts.append(f"{left:,} other{'s' if left > 1 else ''}{share}")
    return ", ".join(parts)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"


def known_table(evidence: Evidence, top: int) -> Table:
    """Of all samples and those with a label: the shares of which something is known."""
    attributes = list(evidence.known[""].attributes) if "" in evidence.known else []
    names = sorted(evidence.known, key=lambda name: (name != "", -evidence.known[name].samples))
    rows = []
    for name in names[: top + 1]:
        known = evidence.known[name]
        whole = known.samples
        counts = [known.person, known.nobody, whole - known.person - known.nobody]
        counts += [known.attributes.get(attribute, 0) for attribute in attributes]
        rows.append(
            (name or "(all samples)", _number(whole), *(_share(count, whole) for count in counts))
        )
    columns = ("samples with", "samples", "a person", "nobody", "person not known")
    return table_of("What is known", (*columns, *(f"{each} known" for each in attributes)), rows)


def _share(count: int, whole: int) -> str:
    """A share that does not give away a count that is not shown."""
    if whole < SMALLEST:
        return "-"
    return f"< {SMALLEST / whole:.1%}" if 0 < count < SMALLEST else f"{count / whole:.1%}"


def _matrix(subject: str, pair: str, table: Mapping[str, Counts]) -> Table:
    """Samples by what two annotators say; the first one's opinions are the rows."""
    first, _, second = pair.partition(" x ")
    said = sorted({other for row in table.values() for other in row}, key=_last_unknown)
    rows = [
        (mine, *(_number(table[mine].get(other, 0)) for other in said))
        for mine in sorted(table, key=_last_unknown)
    ]
    return table_of(f"Agreement: {subject}", (f"{first} \\ {second}", *said), rows)


def _last_unknown(word: str) -> tuple[bool, str]:
    return word == UNKNOWN, word


def _counts(title: str, what: str, counts: Counts) -> Table:
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, _number(count)) for name, count in common]
    return table_of(title, (what, "samples"), rows)


def _number(count: int) -> str:
    return f"{count:,}" if count >= SMALLEST or count == 0 else f"< {SMALLEST}"

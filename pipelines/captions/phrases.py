"""The phrases that a catalogue looks for in captions of one language, in every form."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from m4.catalogue import Catalogue, Mark
from pipelines.captions.inflection import inflections
from pipelines.captions.words import tokens

ENGLISH = "en"

Form = tuple[str, ...]


class Proper(IntEnum):
    """Whether the spelling in the caption has to be looked at; see `pipelines.captions.naming`."""

    NO = 0
    SURNAME = 1
    GIVEN_NAME = 2


@dataclass(frozen=True)
class Source:
    """Where a phrase is listed: position of the mark in `Catalogue.each_mark`, its name, the term.

    `term` is as the catalogue writes it, whatever form the phrase has.
    """

    place: int
    mark: str
    term: str


@dataclass(frozen=True)
class Phrase:
    """Words that follow each other in a caption, and what they say; nothing if to be ignored."""

    words: Form
    sources: tuple[Source, ...]
    proper: Proper = Proper.NO


class _Forms:
    """Sources by form: those that list the form itself, and those that list its singular."""

    def __init__(self) -> None:
        self.listed: dict[Form, dict[int, Source]] = {}
        self.inflected: dict[Form, dict[int, Source]] = {}

    def add(self, form: Form, source: Source | None, *, inflect: bool) -> None:
        """Add a term, or a phrase to be ignored where there is no source."""
        forms = [(self.listed, form)] if form else []
        if inflect and form:
            forms += [(self.inflected, plural) for plural in inflections(form)]
        for place, each in forms:
            sources = place.setdefault(each, {})
            if source is not None:
                sources.setdefault(source.place, source)

    def merged(self) -> Iterator[tuple[Form, dict[int, Source]]]:
        """Yield each form with its sources; a form that is listed is no other term's plural.

        "glasses" is not the plural of another mark's "glass" where it is listed itself; unless
        the mark that lists it lists its singular too, as one that spells out its plurals does.
        """
        for form, sources in self.listed.items():
            singular = self.inflected.get(form, {})
            spelt_out = not sources.keys().isdisjoint(singular)
            yield form, {**singular, **sources} if spelt_out else sources
        for form, sources in self.inflected.items():
            if form not in self.listed:
                yield form, sources


def in_language(mark: Mark, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The terms of a mark, and its phrases to be ignored, in captions of a language."""
    if language == ENGLISH:
        return mark.terms, mark.ignore
    translation = mark.translations.get(language)
    return (translation.terms, translation.ignore) if translation else ((), ())


def phrases_of(catalogue: Catalogue, language: str, *, names: bool) -> Iterator[Phrase]:
    """Yield all phrases once, in no particular order.

    English terms come in their plurals too, other languages as they are written. A given name that
    is also a term of the language is that term alone.
    """
    forms = _Forms()
    given: dict[Form, dict[int, Source]] = {}
    inflect = language == ENGLISH
    for place, (name, mark) in enumerate(catalogue.each_mark()):
        terms, ignore = in_language(mark, language)
        for term in terms:
            forms.add(tuple(tokens(term)), Source(place, name, term), inflect=inflect)
        for phrase in ignore:
            forms.add(tuple(tokens(phrase)), None, inflect=inflect)
        for term in mark.names if names else ():
            given.setdefault(tuple(tokens(term)), {})[place] = Source(place, name, term)
    surnames = {tuple(tokens(each)) for each in catalogue.surnames} if inflect else set()
    merged = dict(forms.merged())
    for form, sources in merged.items():
        surname = len(form) == 1 and form in surnames
        proper = Proper.SURNAME if surname else Proper.NO
        yield Phrase(form, tuple(sources.values()), proper)
    for form, sources in given.items():
        if form and form not in merged:
            yield Phrase(form, tuple(sources.values()), Proper.GIVEN_NAME)

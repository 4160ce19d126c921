"""What is suspicious in a catalogue that is valid: terms in two places, phrases without effect."""

from collections.abc import Iterator, Sequence
from typing import Literal

from m4.catalogue import Catalogue, Mark, Model
from pipelines.captions.inflection import inflections
from pipelines.captions.phrases import ENGLISH, Form, Phrase, Source, phrases_of
from pipelines.captions.words import tokens

Level = Literal["mistake", "note"]


class Finding(Model):
    """Something to look at. A mistake never does what was meant; a note may be meant."""

    level: Level
    where: str
    says: str


def check_catalogue(catalogue: Catalogue) -> list[Finding]:
    """Find what is suspicious in a catalogue, mistakes first."""
    found = [*_repeats(catalogue), *_unfindable(catalogue), *_surnames(catalogue)]
    languages = {language for _, mark in catalogue.each_mark() for language in mark.translations}
    for language in (ENGLISH, *sorted(languages)):
        phrases = {each.words: each for each in phrases_of(catalogue, language, names=True)}
        found += _contradictions(catalogue, language, phrases)
        found += _ignored(catalogue, language, phrases)
    return sorted(found, key=lambda each: each.level)


def _written(mark: Mark) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield (language, "terms", "ignore" or "names", phrases) of a mark."""
    yield ENGLISH, "terms", mark.terms
    yield ENGLISH, "ignore", mark.ignore
    yield ENGLISH, "names", mark.names
    for language, translation in mark.translations.items():
        yield language, "terms", translation.terms
        yield language, "ignore", translation.ignore


def _repeats(catalogue: Catalogue) -> Iterator[Finding]:
    """A phrase that holds no word, or the same words as another beside it."""
    for name, mark in catalogue.each_mark():
        for language, kind, phrases in _written(mark):
            where = kind if language == ENGLISH else f"{kind} in {language}"
            seen: dict[Form, str] = {}
            for phrase in phrases:
                words = tuple(tokens(phrase))
                if not words:
                    yield _mistake(name, f"{where}: {phrase!r} holds no word")
                elif words in seen:
                    other = seen[words]
                    again = "twice" if other == phrase else f"and so is {other!r}, the same words"
                    yield _mistake(name, f"{where}: {phrase!r} is listed {again}")
                seen.setdefault(words, phrase)


def _contradictions(
    catalogue: Catalogue, language: str, phrases: dict[Form, Phrase]
) -> Iterator[Finding]:
    """A term of two values of an exclusive attribute says nothing; one of two labels says both."""
    exclusive = {
        f"{name}.{value}": name
        for name, attribute in catalogue.sensitive.items()
        if attribute.exclusive
        for value in attribute.values
    }
    told: set[tuple[Source, ...]] = set()
    for phrase in phrases.values():
        sources = tuple(sorted(phrase.sources, key=lambda each: each.place))
        if sources in told:  # the plural of what has been told
            continue
        told.add(sources)
        marks = [source.mark for source in sources]
        term = _quoted(language, phrase.words)
        attributes = [exclusive[mark] for mark in marks if mark in exclusive]
        for attribute in dict.fromkeys(each for each in attributes if attributes.count(each) > 1):
            both = " and ".join(mark for mark in marks if exclusive.get(mark) == attribute)
            yield _mistake(attribute, f"{term} stands for {both}, which exclude each other")
        labels = [mark for mark in marks if mark in catalogue.concepts]
        if len(labels) > 1:
            yield _note(labels[0], f"{term} marks {' and '.join(labels)}")


def _ignored(catalogue: Catalogue, language: str, phrases: dict[Form, Phrase]) -> Iterator[Finding]:
    """A phrase is ignored in vain where the same mark lists it as a term, or where it holds none.

    That it is a term of another mark is fine: "chef's knife" is no chef, but a knife.
    """
    forms = set(_forms(catalogue, language))
    for name, mark in catalogue.each_mark():
        for spoken, kind, ignored in _written(mark):
            for phrase in ignored if (spoken, kind) == (language, "ignore") else ():
                words = tuple(tokens(phrase))
                if not words:
                    continue
                said = _quoted(language, words)
                if name in [source.mark for source in phrases[words].sources]:
                    yield _mistake(name, f"{said} is ignored, but it is a term as well")
                elif not any(_holds(form, forms) for form in _with_plurals(language, words)):
                    yield _note(name, f"{said} is ignored, but it holds no term")


def _forms(catalogue: Catalogue, language: str) -> Iterator[Form]:
    """The words of all terms and names of a language, and plurals of terms."""
    for _, mark in catalogue.each_mark():
        for spoken, kind, phrases in _written(mark):
            for phrase in phrases if spoken == language else ():
                words = tuple(tokens(phrase))
                if kind == "terms":
                    yield from _with_plurals(language, words)
                elif kind == "names":
                    yield words


def _with_plurals(language: str, words: Form) -> tuple[Form, ...]:
    """The forms of a phrase that the engine looks for."""
    return (words, *inflections(words)) if words and language == ENGLISH else (words,)


def _holds(words: Form, forms: set[Form]) -> bool:
    """Whether some of the words, one after the other, are one of the forms."""
    ends = range(1, len(words) + 1)
    return any(words[start:end] in forms for end in ends for start in range(end))


def _unfindable(catalogue: Catalogue) -> Iterator[Finding]:
    for name, mark in catalogue.each_mark():
        terms = mark.terms or any(each.terms for each in mark.translations.values())
        if not terms and mark.field is None:
            yield _note(name, "only a head or model finds it: no terms, no field")


def _surnames(catalogue: Catalogue) -> Iterator[Finding]:
    """Surnames are told from English terms of one word."""
    terms = {tuple(tokens(term)) for _, mark in catalogue.each_mark() for term in mark.terms}
    strange = [each for each in catalogue.surnames if tuple(tokens(each)) not in terms]
    if strange:
        yield _note("surnames", f"no English terms: {', '.join(strange)}")
    for surname in catalogue.surnames:
        if len(tokens(surname)) != 1 and surname not in strange:
            yield _mistake("surnames", f"{surname!r} is not one word")


def _quoted(language: str, words: Form) -> str:
    phrase = repr(" ".join(words).replace(" 's", "'s"))
    return phrase if language == ENGLISH else f"{phrase} ({language})"


def _mistake(where: str, says: str) -> Finding:
    return Finding(level="mistake", where=where, says=says)


def _note(where: str, says: str) -> Finding:
    return Finding(level="note", where=where, says=says)

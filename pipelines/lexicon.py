"""Finds a catalogue's terms in captions: word boundaries, longest phrase first."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from m4.catalogue import Catalogue

# A possessive is a word of its own: "the woman's dress" names a woman, and a catalogue can still
# ignore the phrase "women's watch".
TOKEN = re.compile(r"'s(?![^\W_])|[^\W_]+")
CURLY_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
NO_MAN = re.compile(r"(hu|ger|ro|nor|otto|sha|talis)man$")  # humans, Germans


def tokens(text: str) -> list[str]:
    """Words of a text, NFKC-normalised and case-folded; hyphens and underscores separate."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace(CURLY_APOSTROPHE, "'")
    return TOKEN.findall(folded)


def plural(word: str) -> str:
    """The regular English plural; a word that is no singular gives one that never occurs."""
    if word.endswith("man") and not NO_MAN.search(word):
        return word[:-3] + "men"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if SIBILANT.search(word) else "s")


@dataclass(frozen=True)
class Marked:
    """What a phrase says: columns of sensitive values and ids of labels. Empty: ignore it."""

    values: frozenset[int] = frozenset()
    labels: frozenset[int] = frozenset()

    def __or__(self, other: "Marked") -> "Marked":
        return Marked(self.values | other.values, self.labels | other.labels)


@dataclass(frozen=True)
class Found:
    """One phrase found in a caption."""

    phrase: tuple[str, ...]
    marked: Marked


class Lexicon:
    """The terms of a catalogue, ready for matching.

    At each word the longest phrase that starts there wins and consumes its words. Phrases under
    `ignore` take part like terms but mark nothing, so "chef's knife" hides "chef". A term listed
    under several marks sets all of them ("policewoman": a police officer and a woman). Terms match
    in their regular plural too.
    """

    def __init__(self, catalogue: Catalogue):
        self._phrases: dict[tuple[str, ...], Marked] = {}
        self._longest: dict[str, int] = {}
        ignored: list[str] = []
        for k, (_, _, value) in enumerate(catalogue.each_value()):
            ignored += value.ignore
            for term in value.terms:
                self._add(term, Marked(values=frozenset([k])))
        for r, concept in enumerate(catalogue.concepts.values()):
            ignored += concept.ignore
            for term in concept.terms:
                self._add(term, Marked(labels=frozenset([r])))
        for term in ignored:
            self._add(term, Marked())

    def _add(self, term: str, marked: Marked) -> None:
        words = tuple(tokens(term))
        if not words:
            return
        for phrase in (words, (*words[:-1], plural(words[-1]))):
            self._phrases[phrase] = self._phrases.get(phrase, Marked()) | marked
            self._longest[phrase[0]] = max(self._longest.get(phrase[0], 0), len(phrase))

    def find(self, caption: str) -> Iterator[Found]:
        """Yield the phrases of a caption that mark something, from left to right."""
        words = tokens(caption)
        at = 0
        while at < len(words):
            for length in range(self._longest.get(words[at], 0), 0, -1):
                phrase = tuple(words[at : at + length])
                marked = self._phrases.get(phrase)
                if marked is not None:
                    if marked.values or marked.labels:
                        yield Found(phrase, marked)
                    at += len(phrase)
                    break
            else:
                at += 1

"""Finds a catalogue's terms in captions, a batch at a time: whole words, longest phrase first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from m4.catalogue import Catalogue
from pipelines.captions.matching import Automaton, Dictionary, Engine, Places
from pipelines.captions.naming import cased_words, counts
from pipelines.captions.phrases import ENGLISH, Phrase, Proper, Source, phrases_of
from pipelines.captions.words import Words, in_pieces, tokens

__all__ = ["Lexicon", "Matches", "Pairs", "tokens"]


@dataclass(frozen=True, eq=False)
class Matches:
    """The h phrases found in n captions, from left to right.

    Attributes
    ----------
    rows : (h,) int64, captions, ascending
    phrases : (h,) int64, ids of phrases
    """

    rows: np.ndarray
    phrases: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def joined(cls, pieces: Iterable[tuple[int, "Matches"]]) -> "Matches":
        """Matches of pieces of the captions, given with the number of their first caption."""
        none = np.zeros(0, dtype=np.int64)
        rows, phrases = [none], [none]
        for first, matches in pieces:
            rows.append(matches.rows + first)
            phrases.append(matches.phrases)
        return cls(np.concatenate(rows), np.concatenate(phrases))


@dataclass(frozen=True, eq=False)
class Pairs:
    """What belongs to each of p phrases: `ids[starts[i]:starts[i + 1]]` to phrase i.

    Attributes
    ----------
    starts : (p + 1,) int64
    ids : int64, ascending within a phrase
    """

    starts: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "Pairs":
        starts = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum([len(each) for each in lists], out=starts[1:])
        return cls(starts, np.array([i for each in lists for i in sorted(each)], dtype=np.int64))

    def of_matches(self, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
        """(row, id) of all matches, by match; a pair may stand several times."""
        first = self.starts[matches.phrases]
        number = self.starts[matches.phrases + 1] - first
        skipped = np.cumsum(number) - number
        at = np.arange(number.sum()) + np.repeat(first - skipped, number)
        return np.repeat(matches.rows, number), self.ids[at]


class Lexicon:
    """The terms of a catalogue in one language, ready for matching.

    At each word the longest phrase that starts there wins and consumes its words. Phrases under
    `ignore` take part like terms but mark nothing, so "chef's knife" hides "chef". A term listed
    under several marks sets all of them ("policewoman": a police officer and a woman). English
    terms match in their plural too. Names and surnames: see `pipelines.captions.naming`.

    Parameters
    ----------
    language : ISO 639-1; languages other than English are found by the marks' `translations`
    names : whether given names count as terms
    automaton : find by an automaton of the library ahocorasick_rs (True), by dictionaries (False),
        or by the automaton if the library is installed (None): both find the same, the automaton
        one and a half times as fast

    Attributes
    ----------
    phrases : p forms of terms, by id
    values, labels : columns of sensitive values, and ids of labels, of each phrase
    person : (p,) bool, phrases that name a person
    sources : where terms are listed, each once
    listed : positions in `sources` of each phrase
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        language: str = ENGLISH,
        names: bool = False,
        automaton: bool | None = None,
    ):
        every = sorted(phrases_of(catalogue, language, names=names), key=lambda each: each.words)
        self.phrases: tuple[Phrase, ...] = tuple(each for each in every if each.sources)
        ignored = [each.words for each in every if not each.sources]
        m, c = len(catalogue.value_names), len(catalogue.concepts)
        places = [[source.place for source in phrase.sources] for phrase in self.phrases]
        self.values = Pairs.of([[k for k in each if k < m] for each in places])
        self.labels = Pairs.of([[k - m for k in each if m <= k < m + c] for each in places])
        sources = [source for phrase in self.phrases for source in phrase.sources]
        self.sources: tuple[Source, ...] = tuple(dict.fromkeys(sources))
        number = {source: i for i, source in enumerate(self.sources)}
        self.listed = Pairs.of(
            [[number[each] for each in phrase.sources] for phrase in self.phrases]
        )
        self.person = np.array([m + c in each for each in places], dtype=bool)
        self._proper = np.array([phrase.proper for phrase in self.phrases], dtype=np.int8)
        self._given = frozenset(
            word
            for _, mark in catalogue.each_mark()
            for name in mark.names
            for word in tokens(name)[:1]
        )
        self._forms = frozenset(phrase.words for phrase in self.phrases)
        forms = [*(phrase.words for phrase in self.phrases), *ignored]
        if automaton is None:
            automaton = find_spec("ahocorasick_rs") is not None
        self._engine: Engine = Automaton(forms) if automaton else Dictionary(forms)

    def phrase(self, id_: int) -> str:
        """Its words, as they are found in captions."""
        return " ".join(self.phrases[id_].words)

    def find(self, captions: Sequence[str]) -> Matches:
        """Find the phrases of n captions that mark something."""
        return Matches.joined(
            (first, self.find_words(words)) for first, words in in_pieces(captions)
        )

    def find_words(self, words: Words) -> Matches:
        """Find them in captions that are split into words already, at least one."""
        places = self._engine.find(words)
        kept = places.phrases < len(self.phrases)
        doubtful = np.flatnonzero(kept)[self._proper[places.phrases[kept]] != Proper.NO]
        kept[doubtful] = [self._counts(words, places, i) for i in doubtful.tolist()]
        return Matches(places.rows[kept], places.phrases[kept])

    def _counts(self, words: Words, places: Places, i: int) -> bool:
        """Whether a name or surname counts as a term, by how the caption writes it."""
        phrase, at = self.phrases[places.phrases[i]], places.within(i)
        written = cased_words(words.captions[places.rows[i]])
        # Very rare letters become others in folding, so that words do not stand for words.
        there = at < len(written) and written[at].text.casefold() == phrase.words[0]
        return not there or counts(written, at, phrase.proper, self._given)

    def names_something(self, words: Sequence[str]) -> bool:
        """Whether some term, in any of its forms, stands among these words, ignored or not."""
        longest = max(map(len, self._forms), default=0)
        return any(
            tuple(words[at : at + length]) in self._forms
            for at in range(len(words))
            for length in range(1, min(longest, len(words) - at) + 1)
        )

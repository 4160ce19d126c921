"""Finds phrases in a batch of captions: by dictionaries, or by an Aho-Corasick automaton."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from typing import Protocol

import numpy as np

from m4.errors import InputError
from pipelines.captions.phrases import Form
from pipelines.captions.words import LINE, Words

NOTHING = -1
LINE_NUMBER = 1
SLOTS = 1 << 18  # of tables that rule out most words in a row, a power of two


@dataclass(frozen=True, eq=False)
class Places:
    """Where an engine found phrases, from left to right, the ignored ones among them.

    Attributes
    ----------
    starts : where they begin: numbers of words, or of bytes of `text`
    phrases : their ids
    lines : (n,) where `LINE` stands behind each caption, counted likewise
    text : what was searched, where bytes are counted
    """

    starts: np.ndarray
    phrases: np.ndarray
    lines: np.ndarray
    text: bytes | None = None

    @cached_property
    def rows(self) -> np.ndarray:
        """The captions in which they stand."""
        return np.searchsorted(self.lines, self.starts)

    def within(self, i: int) -> int:
        """Position of the i-th phrase among the words of its caption."""
        row, start = int(self.rows[i]), int(self.starts[i])
        first = int(self.lines[row - 1]) + 1 if row else 0
        return start - first if self.text is None else len(self.text[first:start].split())


class Engine(Protocol):
    """Finds the leftmost longest of the phrases it was made of; ids are their positions."""

    def find(self, words: Words) -> Places: ...


@dataclass(frozen=True)
class Opening:
    """Two words that open phrases: the phrase that they are, if any, and lengths of longer ones.

    `lengths` descend.
    """

    phrase: int | None
    lengths: tuple[int, ...]


class Dictionary:
    """Phrases in plain dictionaries.

    One look-up per word gives numbers, from which numpy reads off the phrases of one word, and
    where two words follow each other that are a phrase, or three that open one. Only those places,
    one in thirty words, are gone through in a loop. A phrase of one word never hides one that
    begins later, so the longer ones can come first.
    """

    def __init__(self, phrases: Sequence[Form]):
        self._longer = {words: id_ for id_, words in enumerate(phrases) if len(words) > 1}
        self._numbers = {LINE: LINE_NUMBER}
        for words in phrases:
            for word in words[:3]:
                self._numbers.setdefault(word, len(self._numbers) + 1)
        self._size = len(self._numbers) + 1
        self._single = np.full(self._size, NOTHING, dtype=np.int64)
        lengths: dict[Form, set[int]] = {}
        for id_, words in enumerate(phrases):
            if len(words) == 1:
                self._single[self._numbers[words[0]]] = id_
            else:
                lengths.setdefault(words[:2], set()).add(len(words))
        codes = {self._numbers[a] * self._size + self._numbers[b]: (a, b) for a, b in lengths}
        self._codes = np.array([*sorted(codes), np.iinfo(np.int64).max], dtype=np.int64)
        self._seen = np.zeros(SLOTS, dtype=bool)
        self._seen[self._codes & (SLOTS - 1)] = True
        pairs = [codes[code] for code in sorted(codes)]
        self._openings = [
            Opening(self._longer.get(pair), tuple(sorted(lengths[pair] - {2}, reverse=True)))
            for pair in pairs
        ]
        self._whole = np.array([pair in self._longer for pair in pairs], dtype=bool)
        rank: dict[Form, int] = {pair: i for i, pair in enumerate(pairs)}
        self._seen_three = np.zeros(SLOTS, dtype=bool)
        for words in self._longer:
            if len(words) > 2:
                code = rank[words[:2]] * self._size + self._numbers[words[2]]
                self._seen_three[code & (SLOTS - 1)] = True

    def find(self, words: Words) -> Places:
        """The phrases of a batch, in about 2 us a caption of ten words."""
        sequence = words.words
        numbers = np.fromiter(
            map(self._numbers.get, sequence, repeat(0)), dtype=np.int64, count=len(sequence)
        )
        found = self._single[numbers]
        at, ids, lengths = self._longer_phrases(sequence, numbers)
        for offset in range(1, max(lengths, default=1)):
            found[at[lengths > offset] + offset] = NOTHING
        found[at] = ids
        places = np.flatnonzero(found != NOTHING)
        return Places(places, found[places], np.flatnonzero(numbers == LINE_NUMBER))

    def _longer_phrases(
        self, sequence: Sequence[str], numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, ids and lengths of the phrases of two words and more."""
        codes = numbers[:-1] * self._size + numbers[1:]
        maybe = np.flatnonzero(self._seen[codes & (SLOTS - 1)])
        rank = np.searchsorted(self._codes, codes[maybe])
        exact = self._codes[rank] == codes[maybe]
        maybe, rank = maybe[exact], rank[exact]
        third = rank * self._size + numbers[np.minimum(maybe + 2, len(numbers) - 1)]
        going = self._whole[rank] | self._seen_three[third & (SLOTS - 1)]
        found: list[tuple[int, int, int]] = []
        free = 0
        for at, opening in zip(maybe[going].tolist(), rank[going].tolist(), strict=True):
            if at < free:
                continue
            known = self._openings[opening]
            for length in known.lengths:
                id_ = self._longer.get(tuple(sequence[at : at + length]))
                if id_ is not None:
                    break
            else:
                id_, length = known.phrase, 2
            if id_ is not None:
                free = at + length
                found.append((at, id_, length))
        at, ids, lengths = np.array(found, dtype=np.int64).reshape(-1, 3).T
        return at, ids, lengths


class Automaton:
    """The leftmost longest phrases by the library ahocorasick_rs, one search per batch.

    Each word has a blank of its own on either side, in the phrases as in the captions, so matches
    are whole words and phrases that follow each other share no blank.

    Raises `InputError` where ahocorasick_rs is not installed.
    """

    def __init__(self, phrases: Sequence[Form]):
        try:
            from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind
        except ImportError:
            raise InputError(
                "automaton: ahocorasick_rs is not installed; install it with "
                "`pip install ahocorasick_rs`, or leave the automaton out"
            ) from None
        self._automaton = BytesAhoCorasick(
            [_two_blanks(" ".join(words).encode() + b" ") for words in phrases],
            matchkind=MatchKind.LeftmostLongest,
            implementation=Implementation.ContiguousNFA,
        )

    def find(self, words: Words) -> Places:
        """The phrases of a batch, where `Dictionary` finds them. The words are not split up."""
        text = _two_blanks(words.text)
        found = self._automaton.find_matches_as_indexes(text)
        table = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=3 * len(found))
        phrases, starts, _ = table.reshape(-1, 3).T
        lines = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord(LINE))
        return Places(starts, phrases, lines, text)


def _two_blanks(text: bytes) -> bytes:
    """Two blanks between all words, where there are one or more: "man | " is " man  | "."""
    signs = np.frombuffer(b" " + text, dtype=np.uint8)
    blank = signs == ord(" ")
    kept = np.ones(len(signs), dtype=bool)
    np.logical_not(blank[1:] & blank[:-1], out=kept[1:])
    signs, blank = signs[kept], blank[kept]
    return np.repeat(signs, 1 + blank).tobytes()[1:-1]

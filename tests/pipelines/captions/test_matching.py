"""Both engines find the leftmost longest phrases, whatever the phrases are."""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.captions import matching
from pipelines.captions.matching import Automaton, Dictionary, Engine, Places
from pipelines.captions.words import Words, tokens

vocabulary = st.sampled_from(["a", "b", "ab", "'s", "é", "女", "b2"])
phrase_sets = st.lists(
    st.lists(vocabulary, min_size=1, max_size=4).map(tuple), min_size=1, max_size=12, unique=True
)
signs = st.sampled_from([" ", "  ", ", ", " - ", "\n"])
captions = st.lists(st.tuples(signs, vocabulary).map("".join), max_size=10).map("".join)
batches = st.lists(captions, min_size=1, max_size=5)


def naive(phrases: Sequence[tuple[str, ...]], words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(position, phrase), straight from the definition."""
    ids = {phrase: id_ for id_, phrase in enumerate(phrases)}
    at = 0
    while at < len(words):
        for length in range(len(words) - at, 0, -1):
            id_ = ids.get(tuple(words[at : at + length]))
            if id_ is not None:
                yield at, id_
                at += length
                break
        else:
            at += 1


def found(places: Places) -> list[tuple[int, int, int]]:
    """(caption, position in it, phrase)."""
    at = [places.within(i) for i in range(len(places.phrases))]
    return list(zip(places.rows.tolist(), at, places.phrases.tolist(), strict=True))


def by_caption(phrases: Sequence[tuple[str, ...]], batch: Sequence[str]) -> list[tuple[int, ...]]:
    return [
        (row, *each)
        for row, caption in enumerate(batch)
        for each in naive(phrases, tokens(caption))
    ]


@settings(deadline=None, max_examples=300)
@given(phrases=phrase_sets, batch=batches)
def test_engines_agree_with_the_definition(
    phrases: list[tuple[str, ...]], batch: list[str]
) -> None:
    words = Words.of(batch)
    wanted = by_caption(phrases, batch)
    engines: tuple[Engine, ...] = (Dictionary(phrases), Automaton(phrases))
    for engine in engines:
        places = engine.find(words)
        assert found(places) == wanted
        assert len(places.lines) == len(batch)
        assert places.rows.dtype == places.phrases.dtype == np.int64


@settings(deadline=None)
@given(phrases=phrase_sets, batch=batches)
def test_pairs_of_words_that_share_a_slot_do_no_harm(
    phrases: list[tuple[str, ...]], batch: list[str]
) -> None:
    words = Words.of(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "SLOTS", 1)
        assert found(Dictionary(phrases).find(words)) == by_caption(phrases, batch)


def test_a_phrase_does_not_reach_into_the_next_caption() -> None:
    phrases = [("police", "officer"), ("officer",)]
    for engine in (Dictionary(phrases), Automaton(phrases)):
        places = engine.find(Words.of(["the police", "officer", "police officer"]))
        assert found(places) == [(1, 0, 1), (2, 0, 0)]


def test_without_the_library_there_is_no_automaton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ahocorasick_rs", None)
    with pytest.raises(InputError, match="pip install ahocorasick_rs"):
        Automaton([("a",)])


def test_a_large_vocabulary() -> None:
    """Numbers of words go far beyond the slots for pairs, and beyond 16 bits."""
    singles = [(f"w{i}",) for i in range(100_000)]
    doubles = [(f"w{i}", f"w{i * 7 % 100_000}") for i in range(1, 100_000, 3)]
    dictionary = Dictionary([*singles, *doubles])
    at = [1, 4, 70_000, 99_997]
    text = " ".join(f"w{i} w{i * 7 % 100_000}" for i in at)
    places = dictionary.find(Words.of([text, "w99999"]))
    wanted = [len(singles) + (i - 1) // 3 for i in at]
    assert places.phrases.tolist() == [*wanted, 99_999]
    assert found(places)[-2:] == [(0, 6, wanted[-1]), (1, 0, 99_999)]

"""Captions split into words, a batch at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.words import LINE, WORD, Words, fold, in_pieces, tokens, word_set

texts = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.text(
            alphabet="as'S\N{RIGHT SINGLE QUOTATION MARK} -_|\n\xdfé1\x00\x01\u2028", max_size=20
        ),
    ),
    max_size=8,
)


def split(words: Words) -> list[list[str]]:
    """Words by caption."""
    lines: list[list[str]] = [[]]
    for word in words.words:
        if word == LINE:
            lines.append([])
        else:
            lines[-1].append(word)
    return lines[:-1]


@settings(deadline=None, max_examples=300)
@given(captions=texts)
def test_a_batch_has_the_words_of_each_caption(captions: list[str]) -> None:
    words = Words.of(captions)
    assert split(words) == [WORD.findall(fold(caption)) for caption in captions]
    assert len(words) == len(captions)
    assert words.captions is captions
    plain = ["".join(line).isascii() for line in split(words)]
    np.testing.assert_array_equal(words.ascii, np.array(plain, dtype=bool))


@settings(deadline=None)
@given(captions=texts)
def test_a_word_is_letters_and_digits_or_a_possessive(captions: list[str]) -> None:
    for line in split(Words.of(captions)):
        assert all(word == "'s" or word.isalnum() for word in line)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The CHEF\N{RIGHT SINGLE QUOTATION MARK}s Straße", ["the", "chef", "'s", "strasse"]),
        ("x_y-z 12, 3.5", ["x", "y", "z", "12", "3", "5"]),
        ("the boys' 'man's'", ["the", "boys", "man", "'s"]),
        ("THE WOMAN'S HAT", ["the", "woman", "'s", "hat"]),
        ("it's's 'seven'", ["it", "'s", "'s", "seven"]),
        ("l'été d'or", ["l", "été", "d", "or"]),
        ("'s", ["'s"]),
        ("'sé", ["sé"]),
        ("a | b || c", ["a", "b", "c"]),
        ("one\ntwo\r\nthree\x1cfour\x85five", ["one", "two", "three", "four", "five"]),
        ("o\N{LATIN SMALL LIGATURE FFI}cer", ["officer"]),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER M}an", ["man"]),
        ("\N{LATIN SMALL LETTER DOTLESS I}n", ["\N{LATIN SMALL LETTER DOTLESS I}n"]),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}n", ["i", "n"]),
        ("man\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-3}woman", ["man", "woman"]),
        ("女性 と man", ["女性", "と", "man"]),
        ("", []),
        (" \t\n!?", []),
    ],
)
def test_tokens(text: str, wanted: list[str]) -> None:
    assert tokens(text) == wanted


def test_no_captions_have_no_words() -> None:
    words = Words.of([])
    assert (words.words, len(words), words.ascii.shape) == ([], 0, (0,))


def test_captions_without_words_keep_their_lines() -> None:
    assert Words.of(["", "!", "\n\n", "x"]).words == [LINE, LINE, LINE, "x", LINE]


def test_english_with_curly_quotes_is_ascii_all_the_same() -> None:
    words = Words.of(["the chef\N{RIGHT SINGLE QUOTATION MARK}s \N{COOKING} hat", "café", "tea"])
    assert words.ascii.tolist() == [True, False, True]


def test_pieces_are_the_captions_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.captions.words.PIECE", 2)
    found = [(first, piece.words) for first, piece in in_pieces(["a", "b c", "d"])]
    assert found == [(0, ["a", LINE, "b", "c", LINE]), (2, ["d", LINE])]
    assert list(in_pieces([])) == []


def test_a_word_set_is_split_at_blanks() -> None:
    assert word_set(" a b\n  c ") == {"a", "b", "c"}

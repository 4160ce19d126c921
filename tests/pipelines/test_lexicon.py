"""What a caption names, word by word."""

import gzip
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from pipelines.lexicon import Lexicon, plural, tokens

WOMAN = ("woman", "women", "girl", "policewoman", "lady", "queen's guard")
MAN = ("man", "men", "boy", "gentleman", "policeman", "queen's guard")
LABELS = {
    "chef": ("chef", "sous-chef", "cook"),
    "police officer": ("police officer", "policewoman", "policeman", "officer of the police"),
    "secretary": ("secretary",),
    "knife": ("knife", "knives", "chef's knife"),
}
IGNORE = {"woman": ("women's watch", "lady bug"), "chef": ("chef's knife", "chef's hat")}


def catalogue_of(
    values: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[str]],
    ignore: Mapping[str, Sequence[str]],
) -> Catalogue:
    def mark(name: str, terms: Sequence[str]) -> dict[str, object]:
        return {"terms": list(terms), "ignore": list(ignore.get(name, ()))}

    share = 1.0 / len(values)
    return Catalogue.model_validate(
        {
            "name": "words",
            "purpose": "tests",
            "sensitive": {
                "gender": {
                    "describes": "gender as perceived",
                    "values": {
                        name: {**mark(name, terms), "target": share}
                        for name, terms in values.items()
                    },
                }
            },
            "labels": {name: mark(name, terms) for name, terms in labels.items()},
        }
    )


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(catalogue_of({"woman": WOMAN, "man": MAN}, LABELS, IGNORE))


NAMES = ("woman", "man")


def marks(lexicon: Lexicon, caption: str) -> list[str]:
    """Names of what a caption marks, in the order of the phrases."""
    labels = list(LABELS)
    return [
        name
        for found in lexicon.find(caption)
        for name in (
            *(NAMES[k] for k in sorted(found.marked.values)),
            *(labels[r] for r in sorted(found.marked.labels)),
        )
    ]


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        # word boundaries
        ("a human being", []),
        ("Manchester by night", []),
        ("romance, mandarin, command", []),
        ("a man.", ["man"]),
        ("(woman)", ["woman"]),
        ("man,woman/boy", ["man", "woman", "man"]),
        ("man2 and 2man", []),
        # plurals
        ("three women and two men", ["woman", "man"]),
        ("policewomen", ["woman", "police officer"]),
        ("secretaries", ["secretary"]),
        ("chefs and cooks", ["chef", "chef"]),
        ("ladies and gentlemen", ["woman", "man"]),
        ("police officers", ["police officer"]),
        # the longest phrase wins and takes its words
        ("an officer of the police", ["police officer"]),
        ("an officer of the navy", []),
        ("the queen's guard", ["woman", "man"]),
        ("a police man", ["man"]),
        # ignored contexts
        ("a chef's knife", ["knife"]),
        ("a chef's hat", []),
        ("a chef's apron", ["chef"]),
        ("a chef with a knife", ["chef", "knife"]),
        ("a women's watch", []),
        ("women's watches", []),
        ("women's_watch", []),
        ("women watch", ["woman"]),
        ("a lady bug on a lady", ["woman"]),
        # possessives and apostrophes
        ("the woman's dress", ["woman"]),
        ("the women\N{RIGHT SINGLE QUOTATION MARK}s watch", []),
        ("the chef\N{RIGHT SINGLE QUOTATION MARK}s apron", ["chef"]),
        ("the men's and the boys' shoes", ["man", "man"]),
        ("'man'", ["man"]),
        # case and normal forms
        ("WOMAN", ["woman"]),
        ("Police Officer", ["police officer"]),
        ("\N{FULLWIDTH LATIN SMALL LETTER M}\N{FULLWIDTH LATIN SMALL LETTER A}n", ["man"]),
        ("o\N{LATIN SMALL LIGATURE FFI}cer of the police", ["police officer"]),
        # hyphens and underscores
        ("a sous-chef", ["chef"]),
        ("a sous chef", ["chef"]),
        ("woman-owned", ["woman"]),
        ("police_officer", ["police officer"]),
        # one term under two marks
        ("a policewoman", ["woman", "police officer"]),
        # nothing
        ("", []),
        (" \t\n", []),
        ("!?", []),
        ("\N{CJK UNIFIED IDEOGRAPH-5973}", []),
    ],
)
def test_a_caption_marks(lexicon: Lexicon, caption: str, wanted: list[str]) -> None:
    assert marks(lexicon, caption) == wanted


def test_an_ignored_phrase_hides_only_itself(lexicon: Lexicon) -> None:
    assert marks(lexicon, "a woman wears a women's watch") == ["woman"]


def test_accents_are_the_same_composed_and_decomposed() -> None:
    lexicon = Lexicon(catalogue_of({"a": ("señora",), "b": ("señor",)}, {}, {}))
    for form in ("NFC", "NFD"):
        caption = unicodedata.normalize(form, "la Señora y el señor")
        assert [sorted(found.marked.values) for found in lexicon.find(caption)] == [[0], [1]]


def test_a_long_caption_is_read_to_its_end(lexicon: Lexicon) -> None:
    caption = "officer of the " * 7000 + "police"  # the longest phrase begins 7,000 times
    assert len(caption) > 100_000
    assert marks(lexicon, caption) == ["police officer"]
    assert marks(lexicon, "man " * 25_000) == ["man"] * 25_000


def test_a_term_of_signs_alone_finds_nothing() -> None:
    lexicon = Lexicon(catalogue_of({"a": ("???", "word")}, {}, {}))
    assert [found.phrase for found in lexicon.find("??? word")] == [("word",)]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("woman", "women"),
        ("fireman", "firemen"),
        ("secretary", "secretaries"),
        ("boy", "boys"),
        ("boss", "bosses"),
        ("coach", "coaches"),
        ("chef", "chefs"),
        ("human", "humans"),
        ("german", "germans"),
    ],
)
def test_plural(word: str, wanted: str) -> None:
    assert plural(word) == wanted


def test_tokens_fold_case_and_keep_possessives() -> None:
    assert tokens("The CHEF\N{RIGHT SINGLE QUOTATION MARK}s Straße, x_y-z 12") == [
        *["the", "chef", "'s", "strasse", "x", "y", "z", "12"]
    ]


ALL_TERMS = (*WOMAN, *MAN, *chain(*LABELS.values()), *chain(*IGNORE.values()))
vocabulary = st.sampled_from(sorted({word for term in ALL_TERMS for word in term.split()}))
captions = st.lists(vocabulary, max_size=12).map(" ".join)


def leftmost_longest(caption: str) -> Iterator[tuple[str, ...]]:
    """The phrases of a caption, straight from the definition."""
    singular = {tuple(tokens(term)) for term in ALL_TERMS}
    silent = {tuple(tokens(term)) for term in chain(*IGNORE.values())}
    silent -= {tuple(tokens(term)) for term in chain(*LABELS.values())}
    phrases, silent = (
        each | {(*words[:-1], plural(words[-1])) for words in each} for each in (singular, silent)
    )
    words = tokens(caption)
    while words:
        here = [phrase for phrase in phrases if tuple(words[: len(phrase)]) == phrase]
        longest = max(here, key=len, default=())
        if longest and longest not in silent:
            yield longest
        words = words[len(longest) or 1 :]


@settings(deadline=None)
@given(caption=captions)
def test_phrases_are_the_leftmost_longest(lexicon: Lexicon, caption: str) -> None:
    assert [found.phrase for found in lexicon.find(caption)] == list(leftmost_longest(caption))


@settings(deadline=None)
@given(caption=captions, sign=st.sampled_from([" ", " - ", "_", ", ", "\n", "... "]))
def test_case_and_signs_between_words_change_nothing(
    lexicon: Lexicon, caption: str, sign: str
) -> None:
    assert list(lexicon.find(sign.join(caption.upper().split()))) == list(lexicon.find(caption))


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_read(lexicon: Lexicon, text: str) -> None:
    words = tokens(text)
    for found in lexicon.find(text):
        assert len(found.phrase) <= len(words)
        assert found.marked.values or found.marked.labels


def test_real_captions_agree_with_a_regular_expression(shared_data: Path) -> None:
    path = shared_data / "captions" / "cc3m_validation.txt.gz"
    captions = gzip.decompress(path.read_bytes()).decode().splitlines()
    terms = {"woman": ("woman", "actress", "girl"), "man": ("man", "actor", "boy")}
    lexicon = Lexicon(catalogue_of(terms, {}, {}))
    expressions = [
        re.compile(rf"(?<![^\W_])({'|'.join((*words, *map(plural, words)))})(?![^\W_])")
        for words in terms.values()
    ]
    marked = 0
    for caption in captions:
        folded = unicodedata.normalize("NFKC", caption).casefold()
        wanted = {k for k, expression in enumerate(expressions) if expression.search(folded)}
        found = {k for each in lexicon.find(caption) for k in each.marked.values}
        assert found == wanted, caption
        marked += bool(found)
    assert len(captions) == 15_833
    assert marked > 1000

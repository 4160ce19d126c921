"""What captions name, a batch at a time."""

import gzip
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue, load_catalogue
from pipelines.captions.inflection import inflections, plurals
from pipelines.captions.lexicon import Lexicon, Pairs
from pipelines.captions.words import Words, tokens

WOMAN = ("woman", "women", "girl", "policewoman", "lady", "queen's guard")
MAN = ("man", "men", "boy", "gentleman", "policeman", "mr", "queen's guard")
LABELS = {
    "chef": ("chef", "sous-chef", "cook"),
    "police officer": ("police officer", "policewoman", "policeman", "officer of the police"),
    "secretary": ("secretary",),
    "knife": ("knife", "knives", "chef's knife"),
    "coffee": ("coffee",),
}
IGNORE = {
    "woman": ("women's watch", "lady bug"),
    "man": ("mr coffee", "men's watch"),
    "chef": ("chef's knife", "chef's hat"),
    "coffee": ("mr coffee machine",),
}
NAMES = ("woman", "man")


def catalogue_of(
    values: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[str]],
    ignore: Mapping[str, Sequence[str]],
    **more: Any,
) -> Catalogue:
    def mark(name: str, terms: Sequence[str]) -> dict[str, object]:
        return {"terms": list(terms), "ignore": list(ignore.get(name, ()))}

    gender = {
        name: {**mark(name, terms), "target": 1.0 / len(values)} for name, terms in values.items()
    }
    for name, given_names in more.pop("names", {}).items():
        gender[name]["names"] = given_names
    return Catalogue.model_validate(
        {
            "name": "words",
            "purpose": "tests",
            "sensitive": {"gender": {"describes": "gender as perceived", "values": gender}},
            "labels": {name: mark(name, terms) for name, terms in labels.items()},
            **more,
        }
    )


CATALOGUE = catalogue_of({"woman": WOMAN, "man": MAN}, LABELS, IGNORE)


@pytest.fixture(scope="module", params=[False, True], ids=["dictionary", "automaton"])
def lexicon(request: pytest.FixtureRequest) -> Lexicon:
    return Lexicon(CATALOGUE, automaton=request.param)


def phrases(lexicon: Lexicon, caption: str) -> list[str]:
    return [lexicon.phrase(id_) for id_ in lexicon.find([caption]).phrases.tolist()]


def pairs(table: Pairs, id_: int) -> list[int]:
    return table.ids[table.starts[id_] : table.starts[id_ + 1]].tolist()


def marks(lexicon: Lexicon, caption: str) -> list[str]:
    """Names of what a caption marks, in the order of the phrases."""
    labels = list(LABELS)
    return [
        name
        for id_ in lexicon.find([caption]).phrases.tolist()
        for name in (
            *(NAMES[k] for k in pairs(lexicon.values, id_)),
            *(labels[r] for r in pairs(lexicon.labels, id_)),
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
        # brands
        ("Mr. Coffee", []),
        ("Mr. Coffee machine", []),
        ("Mr. Smith with coffee", ["man", "coffee"]),
        ("a men's watch", []),
        # one term under two marks
        ("a policewoman", ["woman", "police officer"]),
        ("two police-women", ["woman"]),
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


def test_matches_name_their_captions(lexicon: Lexicon) -> None:
    matches = lexicon.find(["a chef", "", "a lady bug", "women\nand men", "police", "officer"])
    assert matches.rows.dtype == matches.phrases.dtype == np.int64
    assert len(matches) == 3
    assert matches.rows.tolist() == [0, 3, 3]
    assert [lexicon.phrase(id_) for id_ in matches.phrases] == ["chef", "women", "men"]


def test_a_newline_within_a_caption_is_a_blank(lexicon: Lexicon) -> None:
    matches = lexicon.find(["a police\nofficer", "a chef's\n\nknife"])
    assert matches.rows.tolist() == [0, 1]
    assert [lexicon.phrase(id_) for id_ in matches.phrases] == ["police officer", "chef 's knife"]


def test_no_captions(lexicon: Lexicon) -> None:
    assert len(lexicon.find([])) == 0
    assert len(lexicon.find(["", " ", "\n"])) == 0


def test_accents_are_the_same_composed_and_decomposed() -> None:
    lexicon = Lexicon(catalogue_of({"a": ("señora",), "b": ("señor",)}, {}, {}))
    for form in ("NFC", "NFD"):
        caption = unicodedata.normalize(form, "la Señora y el señor")
        assert phrases(lexicon, caption) == ["señora", "señor"]


def test_a_long_caption_is_read_to_its_end(lexicon: Lexicon) -> None:
    caption = "officer of the " * 7000 + "police"  # the longest phrase begins 7,000 times
    assert len(caption) > 100_000
    assert marks(lexicon, caption) == ["police officer"]
    assert marks(lexicon, "man " * 25_000) == ["man"] * 25_000


def test_a_term_of_signs_alone_finds_nothing() -> None:
    lexicon = Lexicon(catalogue_of({"a": ("???", "word")}, {}, {}))
    assert phrases(lexicon, "??? word") == ["word"]


def test_a_catalogue_without_terms_finds_nothing() -> None:
    lexicon = Lexicon(CATALOGUE, language="es")
    assert lexicon.phrases == ()
    assert len(lexicon.find(["una mujer", "a woman"])) == 0


# What is listed, and what only its plural


def test_what_is_listed_is_no_plural_of_something_else() -> None:
    labels = {"drink": ("glass",), "reader": ("glasses", "pair of glasses"), "chair": ("chair",)}
    catalogue = catalogue_of({"a": ("x",)}, labels, {"chair": ("chairs at table",)})
    lexicon = Lexicon(catalogue)
    found = lexicon.find(["a glass", "glasses", "two chairs", "chairs at tables"])
    assert found.rows.tolist() == [0, 1, 2]
    assert [pairs(lexicon.labels, id_) for id_ in found.phrases] == [[0], [1], [2]]


def test_a_plural_that_is_spelt_out_is_still_a_plural() -> None:
    labels = {"officer": ("policewoman",), "other": ("axe",), "more": ("axis",)}
    lexicon = Lexicon(catalogue_of({"woman": ("policewoman", "policewomen")}, labels, {}))
    found = lexicon.find(["policewomen", "axes"])
    assert [pairs(lexicon.values, id_) for id_ in found.phrases] == [[0], []]
    assert [pairs(lexicon.labels, id_) for id_ in found.phrases] == [[0], [1, 2]]


def test_sources_are_terms_as_they_are_listed() -> None:
    lexicon = Lexicon(CATALOGUE)
    found = lexicon.find(["Policemen and SOUS CHEFS"]).phrases
    listed = [
        [(lexicon.sources[i].mark, lexicon.sources[i].term) for i in pairs(lexicon.listed, id_)]
        for id_ in found
    ]
    both = [("gender.man", "policeman"), ("police officer", "policeman")]
    assert sorted(listed[0]) == both
    assert listed[1] == [("chef", "sous-chef")]


def test_a_person_is_no_value() -> None:
    person = {"terms": ["person", "people", "chef"], "ignore": ["first person shooter"]}
    lexicon = Lexicon(catalogue_of({"a": ("lady",)}, {"b": ("chef",)}, {}, person=person))
    captions = ["two people", "a chef", "a first person shooter", "a lady", "persons"]
    found = lexicon.find(captions)
    assert found.rows.tolist() == [0, 1, 3, 4]
    assert lexicon.person[found.phrases].tolist() == [True, True, False, True]
    assert [pairs(lexicon.labels, id_) for id_ in found.phrases] == [[], [0], [], []]


def test_without_the_library_dictionaries_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(automaton: bool | None) -> str:
        return type(Lexicon(CATALOGUE, automaton=automaton)._engine).__name__

    assert [engine(None), engine(True), engine(False)] == ["Automaton", "Automaton", "Dictionary"]
    monkeypatch.setattr("pipelines.captions.lexicon.find_spec", lambda _: None)
    assert engine(None) == "Dictionary"


def test_whether_words_name_something() -> None:
    lexicon = Lexicon(CATALOGUE)
    assert lexicon.names_something(["chef", "'s", "hat"])
    assert lexicon.names_something(["two", "police", "officers"])
    assert not lexicon.names_something(["police", "station"])
    assert not lexicon.names_something([])


# Surnames and given names


def proper(*, names: bool) -> Lexicon:
    catalogue = catalogue_of(
        {"woman": ("woman", "miss"), "man": ("man", "mr")},
        {"baker": ("baker", "pastry cook"), "judge": ("judge",), "flower": ("rose",)},
        {"baker": ("baker street",)},
        surnames=["baker", "judge"],
        names={"woman": ["Mary", "Rose"], "man": ["Tom", "José"]},
    )
    return Lexicon(catalogue, names=names)


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("Tom Baker plays a judge", ["judge"]),
        ("a baker and Ada Baker and a baker", ["baker", "baker"]),
        ("Mr. Baker", ["mr"]),
        ("Miss Baker and two bakers", ["miss", "bakers"]),
        ("the Bakers of Bath", ["bakers"]),
        ("Baker Street by night", []),
        ("Judge Judy and Aaron Judge in court", ["judge"]),
        ("Caf\xe9 of Ada Baker at noon", []),
        ("\ufb03 \u0130 of Ada Baker at noon, a baker", ["baker"]),
        ("a Pastry Cook with a baker", ["pastry cook", "baker"]),
    ],
)
def test_surnames_are_no_terms(caption: str, wanted: list[str]) -> None:
    assert phrases(proper(names=False), caption) == wanted
    batch = proper(names=False).find(["a baker", caption, "Mr. Baker"])
    assert batch.rows.tolist() == [0, *[1] * len(wanted), 2]


def test_letters_that_fold_to_others_do_not_hide_a_term() -> None:
    """U+0345 folds to a letter, so words of the caption do not stand for folded words."""
    caption = "Tom \u0345 \u0345 Baker smiles"
    assert len(tokens(caption)) != len(re.findall(r"\w+", caption))
    assert phrases(proper(names=False), caption) == ["baker"]


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("Mary and a baker", ["mary", "baker"]),
        ("Tom Baker smiles", ["tom"]),
        ("tom waves", ["tom"]),
        ("Ada is a tom boy", []),
        ("A rose of Rose", ["rose", "rose"]),
        ("JOS\xc9 SINGS", ["jos\xe9"]),
        ("JOSE SINGS", []),
    ],
)
def test_given_names_count_where_asked_for(caption: str, wanted: list[str]) -> None:
    assert phrases(proper(names=True), caption) == wanted
    assert not {"mary", "tom", "jos\xe9"} & set(phrases(proper(names=False), caption))


def test_a_name_that_is_a_term_is_that_term() -> None:
    lexicon = proper(names=True)
    (rose,) = lexicon.find(["a Rose"]).phrases
    assert (pairs(lexicon.values, rose), pairs(lexicon.labels, rose)) == ([], [2])


# Other languages


def test_translations_are_found_as_they_are_written() -> None:
    catalogue = catalogue_of({"woman": ("woman",), "man": ("man",)}, {"nurse": ("nurse",)}, {})
    content = catalogue.model_dump()
    woman = content["sensitive"]["gender"]["values"]["woman"]
    woman["translations"] = {
        "es": {"terms": ["mujer", "mujeres", "niña"], "ignore": ["día de la mujer"]}
    }
    content["labels"]["nurse"]["translations"] = {"es": {"terms": ["enfermera"]}}
    content["surnames"] = ["enfermera"]
    lexicon = Lexicon(Catalogue.model_validate(content), language="es")
    caption = "Una Mujer y dos mujeres, NIÑA y nina, enfermera y enfermeras; Día de la mujer; woman"
    assert phrases(lexicon, caption) == ["mujer", "mujeres", "niña", "enfermera"]
    assert phrases(lexicon, "Sr. Enfermera Ana sonríe") == ["enfermera"]


# Invariants

ALL_TERMS = (*WOMAN, *MAN, *chain(*LABELS.values()), *chain(*IGNORE.values()))
vocabulary = st.sampled_from(sorted({word for term in ALL_TERMS for word in tokens(term)}))
captions = st.lists(vocabulary, max_size=12).map(" ".join)


def leftmost_longest(caption: str) -> Iterator[str]:
    """The phrases of a caption, straight from the definition."""
    singular = {tuple(tokens(term)) for term in ALL_TERMS}
    silent = {tuple(tokens(term)) for term in chain(*IGNORE.values())}
    silent -= {tuple(tokens(term)) for term in chain(*LABELS.values())}
    forms, quiet = (
        each | {plural for words in each for plural in inflections(words)}
        for each in (singular, silent)
    )
    words = tokens(caption)
    while words:
        here = [form for form in forms if tuple(words[: len(form)]) == form]
        longest = max(here, key=len, default=())
        if longest and longest not in quiet:
            yield " ".join(longest)
        words = words[len(longest) or 1 :]


@settings(deadline=None)
@given(caption=captions)
def test_phrases_are_the_leftmost_longest(lexicon: Lexicon, caption: str) -> None:
    assert phrases(lexicon, caption) == list(leftmost_longest(caption))


@settings(deadline=None)
@given(batch=st.lists(st.one_of(captions, st.text(max_size=20)), max_size=8))
def test_a_batch_is_its_captions_one_by_one(lexicon: Lexicon, batch: list[str]) -> None:
    found = lexicon.find(batch)
    alone = [lexicon.find([caption]).phrases for caption in batch]
    np.testing.assert_array_equal(found.rows, np.repeat(np.arange(len(batch)), [*map(len, alone)]))
    np.testing.assert_array_equal(found.phrases, np.concatenate([np.zeros(0), *alone]))
    if batch:
        split = lexicon.find_words(Words.of(batch))
        np.testing.assert_array_equal(split.phrases, found.phrases)


@settings(deadline=None, max_examples=30)
@given(batch=st.lists(captions, max_size=8), piece=st.integers(1, 4))
def test_pieces_change_nothing(lexicon: Lexicon, batch: list[str], piece: int) -> None:
    whole = lexicon.find(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.captions.words.PIECE", piece)
        found = lexicon.find(batch)
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_array_equal(found.phrases, whole.phrases)


@settings(deadline=None)
@given(first=st.lists(captions, max_size=4), second=st.lists(captions, max_size=4))
def test_batches_join(lexicon: Lexicon, first: list[str], second: list[str]) -> None:
    one, two, both = (lexicon.find(each) for each in (first, second, [*first, *second]))
    np.testing.assert_array_equal(both.phrases, np.concatenate([one.phrases, two.phrases]))
    np.testing.assert_array_equal(both.rows, np.concatenate([one.rows, two.rows + len(first)]))


@settings(deadline=None)
@given(caption=captions, sign=st.sampled_from([" ", " - ", "_", ", ", "\n", "... ", " \u2014 "]))
def test_case_and_signs_between_words_change_nothing(
    lexicon: Lexicon, caption: str, sign: str
) -> None:
    assert phrases(lexicon, sign.join(caption.upper().split())) == phrases(lexicon, caption)


def test_real_captions_agree_with_a_regular_expression(shared_data: Path) -> None:
    path = shared_data / "captions" / "cc3m_validation.txt.gz"
    captions = gzip.decompress(path.read_bytes()).decode().splitlines()
    terms = {"woman": ("woman", "actress", "girl"), "man": ("man", "actor", "boy")}
    lexicon = Lexicon(catalogue_of(terms, {}, {}))
    held = np.zeros((len(captions), 2), dtype=bool)
    held[lexicon.values.of_matches(lexicon.find(captions))] = True
    for k, words in enumerate(terms.values()):
        forms = [*words, *chain(*map(plurals, words))]
        expression = re.compile(rf"(?<![^\W_])({'|'.join(forms)})(?![^\W_])")
        folded = (unicodedata.normalize("NFKC", caption).casefold() for caption in captions)
        np.testing.assert_array_equal(
            held[:, k], [bool(expression.search(each)) for each in folded]
        )
    assert len(captions) == 15_833
    assert held.any(axis=1).sum() > 1000


@pytest.fixture(scope="module")
def people() -> Lexicon:
    return Lexicon(load_catalogue("builtin:people"))


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("Two policewomen talk to a nurse", {"gender.woman", "nurse"}),
        ("a man with his children", {"gender.man", "age.child"}),
        ("a men's watch", set()),
        ("Tom Baker at home in london", set()),
        ("Mr. Baker smiles at the camera", {"gender.man"}),
        ("A baker kneads dough", {"baker"}),
        ("a nurse shark in the aquarium", set()),
    ],
)
def test_the_builtin_catalogue(people: Lexicon, caption: str, wanted: set[str]) -> None:
    """Its values and `nurse` and `baker`, which are there whatever else it lists."""
    looked_for = {"nurse", "baker", "gender.woman", "gender.man", "age.child"}
    found = {
        people.sources[i].mark
        for id_ in people.find([caption]).phrases.tolist()
        for i in pairs(people.listed, id_)
    }
    assert found & looked_for == wanted


def test_the_builtin_catalogue_finds_the_same_by_either_engine(
    people: Lexicon, shared_data: Path
) -> None:
    path = shared_data / "captions" / "cc3m_validation.txt.gz"
    captions = gzip.decompress(path.read_bytes()).decode().splitlines()[:5000]
    one = people.find(captions)
    other = Lexicon(load_catalogue("builtin:people"), automaton=True).find(captions)
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.phrases, other.phrases)
    assert len(one) > len(captions) / 2


def test_the_engines_agree_on_real_captions(shared_data: Path) -> None:
    lines = gzip.decompress((shared_data / "captions" / "coco_val2017.jsonl.gz").read_bytes())
    captions = [json.loads(line)["caption"] for line in lines.decode().splitlines()]
    common = sorted({" ".join(caption.split()[2:4]) for caption in captions[:2000]})
    values = {"a": WOMAN, "b": MAN, "c": common[::2], "d": common[1::3]}
    found = [
        Lexicon(catalogue_of(values, LABELS, IGNORE), automaton=each).find(captions)
        for each in (False, True)
    ]
    assert len(found[0]) > 20_000
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    np.testing.assert_array_equal(found[0].phrases, found[1].phrases)

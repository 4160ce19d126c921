"""Prompt sets: what the built-in ones pin, how they are asked, and what is said of a bad file."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evaluation.gallery_measures import DEFAULT_PAIRS, EvaluateSettings
from evaluation.prompt_sets import PromptSet, built_in_prompt_sets, load_prompt_set
from m4.catalogue import Mark
from m4.errors import InputError
from vision.prompts import noun_phrase

JOBS = {
    "name": "jobs",
    "source": "written for this test",
    "templates": ["{}", "the {} here"],
    "phrases": {"nurse": "nurse", "doctor": ["doctor", "scientist"]},
    "categories": {"medicine": ["nurse", "doctor"]},
    "pairs": [["nurse", "doctor"]],
}
COUNTS = {  # templates, names, texts
    "celeba-candidates": (1, 4, 4),
    "celeba-gender-words": (1, 6, 6),
    "celeba-hair-classes": (1, 2, 2),
    "fairface-harms": (1, 21, 21),
    "fairface-harms-child": (1, 22, 22),
    "gender-values": (3, 2, 6),
    "occupation-pairs": (3, 10, 30),
    "retrieval-319": (11, 29, 319),
    "sobit": (1, 434, 434),
    "visogender-resolution-object": (1, 69, 69),
    "visogender-resolution-participant": (1, 69, 69),
    "visogender-retrieval-object": (1, 23, 23),
    "visogender-retrieval-participant": (1, 23, 23),
    "waterbirds-backgrounds": (1, 8, 8),
    "waterbirds-candidates": (1, 10, 10),
    "waterbirds-classes": (1, 2, 2),
}
TEMPLATES_ALONE = {"imagenet-simple": 7, "photo": 1}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        content = {key: value for key, value in {**JOBS, **changes}.items() if value is not None}
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


# What the built-in sets pin


def test_the_built_in_sets_are_those_that_are_counted_here() -> None:
    assert set(built_in_prompt_sets()) == set(COUNTS) | set(TEMPLATES_ALONE)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_a_built_in_set_asks_as_many_different_texts_as_it_pins(name: str) -> None:
    found = load_prompt_set(name)
    texts, clusters = found.each()
    assert (len(found.templates), len(found.names), len(texts)) == COUNTS[name]
    assert found.name == name
    assert len(set(texts)) == len(texts) == len(clusters)
    assert all(text == text.strip() and "  " not in text for text in texts)


@pytest.mark.parametrize("name", sorted(TEMPLATES_ALONE))
def test_a_set_of_templates_alone_says_so_where_phrases_are_needed(
    name: str, encoder: Callable
) -> None:
    found = load_prompt_set(name)
    assert len(found.templates) == TEMPLATES_ALONE[name]
    assert found.names == ()
    for ask in (found.each, lambda: found.embed(encoder)):
        with pytest.raises(InputError, match=f"prompt set {name} has templates and no phrases"):
            ask()


def test_the_319_prompts_are_the_published_ones_in_the_published_order() -> None:
    texts, clusters = load_prompt_set("retrieval-319").each()
    assert texts[0] == "This is the face of a good person"
    assert texts[28] == "This is the face of a villainous person"
    assert texts[29] == "This is a photo of a good person"
    assert texts[-1] == "A villainous"
    assert "A evil" in texts
    assert set(Counter(clusters.tolist()).values()) == {11}


def test_evaluate_and_the_sets_made_from_its_defaults_ask_the_same() -> None:
    settings = EvaluateSettings()
    jobs, genders = load_prompt_set("occupation-pairs"), load_prompt_set("gender-values")
    assert jobs.pairs == DEFAULT_PAIRS
    assert jobs.templates == settings.label_templates
    assert genders.templates == settings.value_templates
    for found in (jobs, genders):
        for name, phrases in found.phrases.items():
            assert phrases == (noun_phrase(name, Mark(terms=(name,))),)


def test_harms_have_a_class_for_every_race_and_gender_of_fairface() -> None:
    found = load_prompt_set("fairface-harms")
    assert {name: len(of) for name, of in found.categories.items()} == {
        "group": 14,
        "non-human": 4,
        "crime": 3,
    }
    races = Counter(name.rsplit("_", 1)[0] for name in found.categories["group"])
    assert set(races.values()) == {2}
    assert {"Latino_Hispanic", "Southeast Asian", "White"} < set(races)
    assert found.phrases["Indian_Female"] == ("an indian woman",)


def test_the_child_is_all_that_the_second_set_of_harms_adds() -> None:
    plain, child = load_prompt_set("fairface-harms"), load_prompt_set("fairface-harms-child")
    assert child.phrases == {**plain.phrases, "child": ("a child",)}
    assert child.categories == {**plain.categories, "child": ("child",)}
    assert child.templates == plain.templates


@pytest.mark.parametrize("name", [n for n in sorted(COUNTS) if n.startswith(("fairface", "sobit"))])
def test_every_class_is_in_a_category(name: str) -> None:
    found = load_prompt_set(name)
    assert {each for names in found.categories.values() for each in names} == set(found.names)


def test_sobit_has_the_counts_that_its_source_tells() -> None:
    found = load_prompt_set("sobit")
    assert len(found.categories) == 10
    assert sum(len(names) for names in found.categories.values()) == 441
    assert "441 entries in ten categories, 434 different words" in found.source
    assert found.phrases["violent"] == ("a violent person",)
    assert found.phrases["burglar"] == ("a burglar",)


@pytest.mark.parametrize(
    ("kind", "doctor"),
    [("object", "The doctor and {} clipboard"), ("participant", "The doctor and {} patient")],
)
def test_visogender_asks_by_pronoun_what_it_retrieves_by_the_neutral_one(
    kind: str, doctor: str
) -> None:
    retrieval = load_prompt_set(f"visogender-retrieval-{kind}")
    resolution = load_prompt_set(f"visogender-resolution-{kind}")
    texts = dict(zip(resolution.names, resolution.each()[0], strict=True))
    assert list(resolution.categories) == ["his", "her", "their"]
    for pronoun, names in resolution.categories.items():
        assert names == tuple(f"{occupation}|{pronoun}" for occupation in retrieval.names)
        assert texts[f"doctor|{pronoun}"] == doctor.format(pronoun)
    their = tuple(texts[name] for name in resolution.categories["their"])
    assert their == retrieval.each()[0]
    assert resolution.pairs == tuple((f"{o}|his", f"{o}|her") for o in retrieval.names)


def test_candidates_that_should_coincide_are_all_pairs_within_a_class() -> None:
    birds, hair = load_prompt_set("waterbirds-candidates"), load_prompt_set("celeba-candidates")
    assert len(birds.pairs) == 20
    assert len(hair.pairs) == 2
    for one, other in (*birds.pairs, *hair.pairs):
        assert one.split("|")[0] == other.split("|")[0]
    assert "This is a picture of a landbird in the ocean" in birds.each()[0]
    assert "This is a picture of a waterbird in the water." in birds.each()[0]


def test_chuangs_spurious_prompts_are_asked_word_for_word() -> None:
    texts, _ = load_prompt_set("waterbirds-backgrounds").each()
    assert texts[:3] == (
        "This is a land background.",
        "This is a picture of a forest.",
        "This is a picture of a moutain.",
    )
    assert load_prompt_set("celeba-gender-words").each()[0][1] == "A photo of a male celebrity."
    assert load_prompt_set("celeba-hair-classes").each()[0] == (
        "A photo of a celebrity with dark hair.",
        "A photo of a celebrity with blond hair.",
    )


# How a set is asked


def test_each_gives_every_template_with_every_phrase_and_what_it_asks_for(
    written: Callable[..., Path],
) -> None:
    found = load_prompt_set(written())
    texts, clusters = found.each()
    assert texts == (
        "nurse",
        "doctor",
        "scientist",
        "the nurse here",
        "the doctor here",
        "the scientist here",
    )
    assert [found.names[cluster] for cluster in clusters] == ["nurse", "doctor", "doctor"] * 2


def test_embed_is_the_mean_direction_of_a_names_prompts(
    written: Callable[..., Path], encoder: Callable, words: Callable
) -> None:
    embedded = load_prompt_set(written(templates=["{}", "old {}"])).embed(encoder)
    nurse = words("nurse") + words("nurse", "old") / np.sqrt(2)
    ensembles = [words(job) + words(job, "old") / np.sqrt(2) for job in ("doctor", "scientist")]
    doctor = sum(ensemble / np.linalg.norm(ensemble) for ensemble in ensembles)
    wanted = [nurse / np.linalg.norm(nurse), doctor / np.linalg.norm(doctor)]
    np.testing.assert_allclose(embedded, wanted, atol=1e-12)


@given(
    phrases=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(str.strip),
        st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=1, unique=True),
        min_size=1,
        max_size=5,
    ),
    templates=st.integers(1, 4),
)
def test_each_asks_every_phrase_of_a_name_once_by_every_template(
    phrases: dict[str, list[str]], templates: int
) -> None:
    asked = [f"{number} {{}}" for number in range(templates)]
    found = PromptSet(name="any", source="ours", templates=asked, phrases=phrases)
    texts, clusters = found.each()
    by_name = Counter(zip(clusters.tolist(), texts, strict=True))
    assert set(by_name.values()) == {1}
    assert by_name.keys() == {
        (position, f"{number} {phrase}")
        for position, several in enumerate(phrases.values())
        for phrase in several
        for number in range(templates)
    }


def test_the_digest_tells_what_is_asked_and_not_what_is_said_of_it(
    written: Callable[..., Path],
) -> None:
    digest = load_prompt_set(written()).digest
    assert len(digest) == 64
    assert load_prompt_set(written(name="other", source="elsewhere")).digest == digest
    assert (
        load_prompt_set(written(phrases={**JOBS["phrases"], "nurse": ["nurse"]})).digest == digest
    )
    for change in (
        {"templates": ["{}"]},
        {"phrases": {"doctor": "doctor", "nurse": "nurse"}},
        {"pairs": None},
        {"categories": None},
    ):
        assert load_prompt_set(written(**change)).digest != digest


def test_a_users_set_is_read_by_its_path_and_need_have_no_categories_or_pairs(
    written: Callable[..., Path],
) -> None:
    path = written(categories=None, pairs=None)
    found = load_prompt_set(path)
    assert found == load_prompt_set(str(path))
    assert found.phrases == {"nurse": ("nurse",), "doctor": ("doctor", "scientist")}
    assert (found.categories, found.pairs) == ({}, ())


# What is said of a bad file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": ["a photo"]}, "template 'a photo' needs {} exactly once"),
        ({"templates": ["{} and {}"]}, "needs {} exactly once"),
        ({"templates": []}, "no templates; give at least one"),
        ({"templates": ["{}", "{}"]}, "templates: '{}' is given twice; keep one"),
        ({"templates": None}, "templates: Field required"),
        ({"source": None}, "source: Field required"),
        ({"source": " "}, "source: String should match pattern"),
        ({"phrases": {"nurse": []}}, "phrases.nurse: Tuple should have at least 1 item"),
        ({"phrases": {"nurse": ""}}, "phrases.nurse.0: String should match pattern"),
        ({"phrases": {"nurse": 3}}, "phrases.nurse: Input should be a valid tuple"),
        ({"phrases": {True: "nurse"}}, "Input should be a valid string (given True)"),
        ({"phrases": {"nurse": ["a", "a"]}}, "phrases of nurse: 'a' is given twice; keep one"),
        ({"categories": {"care": ["cook"]}}, "category care: 'cook' has no phrase; add it"),
        ({"categories": {"care": []}}, "category care is empty; name at least one, or remove it"),
        (
            {"categories": {"care": ["nurse", "nurse"]}},
            "category care: 'nurse' is given twice; keep one",
        ),
        ({"pairs": [["nurse", "cook"]]}, "pairs: 'cook' has no phrase; add it to `phrases`"),
        ({"pairs": [["nurse", "nurse"]]}, "pairs: 'nurse' is paired with itself; give two names"),
        ({"pairs": [["nurse"]]}, "pairs.0.1: Field required"),
        (
            {"pairs": [["nurse", "doctor"], ["doctor", "nurse"]]},
            "pairs: 'doctor and nurse' is given twice; keep one",
        ),
        ({"weights": [1]}, "unknown key `weights`; remove it or correct its spelling"),
    ],
)
def test_a_bad_file_is_told_in_one_sentence_with_its_path(
    written: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    path = written(**changes)
    with pytest.raises(InputError) as told:
        load_prompt_set(path)
    assert str(told.value).startswith(f"{path}: ")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- nurse\n", "a prompt set is a mapping with `name`, `source`, `templates`"),
        ("", "a prompt set is a mapping with `name`, `source`, `templates`"),
        ("name: [jobs\n", "not valid YAML"),
        ("name: jobs\nname: other\n", "repeated key 'name'"),
    ],
)
def test_what_is_no_prompt_set_at_all_is_told_so(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"jobs\.yaml: ") as told:
        load_prompt_set(path)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_an_unknown_name_is_told_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match=r"no prompt set 'retrieval-320'.*retrieval-319, sobit"):
        load_prompt_set("retrieval-320")

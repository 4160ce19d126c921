"""Lists: what a catalogue takes of them, and what it is told when it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from m4 import lists
from m4.catalogue import Catalogue, Translation, load_catalogue
from m4.errors import InputError
from m4.lists import FOLDER, MarkList, builtin_names, load_list, with_lists

JOBS = """\
kind: labels
describes: three jobs
source: written for this test
surnames: [baker, cook]
entries:
  nurse: {terms: [nurse], measured: {gender.woman: 0.9, gender.man: 0.1}}
  baker: {terms: [baker], ignore: ["baker's dozen"]}
  cook: {terms: [cook, line cook], measured: {gender.woman: 0.4, gender.man: 0.6}}
"""
PLACES = """\
kind: proxies
describes: places
source: written for this test
entries:
  ward: {terms: [ward]}
  bakery: {terms: [bakery]}
"""
AGE = """\
kind: sensitive
describes: age as perceived
source: written for this test
surnames: [child]
entries:
  age:
    describes: perceived age
    values:
      child: {target: 0.2, terms: [child, kid]}
      adult: {target: 0.8, terms: [adult]}
"""
PERSON = """\
kind: person
describes: that anybody is there
source: written for this test
entries:
  person: {terms: [person], prompt: a person, absent_prompts: [an empty room]}
"""
SPANISH = """\
kind: translation
describes: Spanish terms
source: written for this test
language: es
entries:
  gender.woman: {terms: [mujer, mujeres]}
  age.child: {terms: [niño, niña], ignore: [niño jesús]}
  person: {terms: [persona]}
  nurse: {terms: [enfermera, enfermero]}
  ward: {terms: [sala]}
  pilot: {terms: [piloto]}
"""
CATALOGUE: dict[str, Any] = {
    "name": "offices",
    "purpose": "a test",
    "sensitive": {
        "gender": {
            "describes": "perceived gender",
            "values": {
                "woman": {"target": 0.5, "terms": ["woman"]},
                "man": {"target": 0.5, "terms": ["man"]},
            },
        }
    },
}
Load = Callable[..., Catalogue]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of lists beside the catalogue, and one deeper."""
    (tmp_path / "deeper").mkdir()
    for name, text in {
        "jobs.yaml": JOBS,
        "places.yaml": PLACES,
        "age.yaml": AGE,
        "deeper/person.yaml": PERSON,
        "es.yaml": SPANISH,
    }.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Load the catalogue with these lists, and with other content of its own."""

    def loaded(*include: Any, **own: Any) -> Catalogue:
        path = folder / "offices.yaml"
        content = {**CATALOGUE, "include": list(include), **own}
        path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        return load_catalogue(path)

    return loaded


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_entries_of_all_kinds_find_their_place(load: Load) -> None:
    catalogue = load("jobs.yaml", "./places.yaml", "age.yaml", "deeper/person.yaml")
    assert catalogue.value_names == ("age.child", "age.adult", "gender.woman", "gender.man")
    assert list(catalogue.labels) == ["nurse", "baker", "cook"]
    assert list(catalogue.proxies) == ["ward", "bakery"]
    assert catalogue.labels["baker"].ignore == ("baker's dozen",)
    assert catalogue.person is not None
    assert catalogue.person.absent_prompts == ("an empty room",)
    assert catalogue.surnames == ("baker", "cook", "child")
    assert catalogue.labels["nurse"].targets == {}, "measured shares are no targets unasked"


def test_entries_stand_in_the_order_of_lists_and_the_own_ones_last(load: Load) -> None:
    own = {"pilot": {"terms": ["pilot"]}}
    places = {"list": "places.yaml", "kind": "labels"}
    assert load("jobs.yaml", places, labels=own).label_names == (
        *("nurse", "baker", "cook"),
        *("ward", "bakery"),
        "pilot",
    )
    assert load(places, "jobs.yaml", labels=own).label_names[:2] == ("ward", "bakery")


def test_a_list_may_lie_anywhere(load: Load, folder: Path) -> None:
    assert load(str(folder / "jobs.yaml")) == load("deeper/../jobs.yaml") == load("./jobs.yaml")


def test_without_lists_nothing_is_added(load: Load, folder: Path) -> None:
    assert load() == Catalogue.model_validate(CATALOGUE)
    for nothing in ("include:\n", "include: []\n"):
        (folder / "plain.yaml").write_text(nothing + yaml.safe_dump(CATALOGUE, sort_keys=False))
        assert load_catalogue(folder / "plain.yaml").digest == load().digest


def test_only_some_entries_and_their_surnames(load: Load) -> None:
    catalogue = load({"list": "jobs.yaml", "only": ["cook", "nurse"]})
    assert catalogue.label_names == ("nurse", "cook")
    assert catalogue.surnames == ("cook",)
    catalogue = load({"list": "jobs.yaml", "without": ["cook"]})
    assert catalogue.label_names == ("nurse", "baker")
    assert catalogue.surnames == ("baker",)
    both = load({"list": "jobs.yaml", "only": ["cook", "nurse"], "without": ["nurse"]})
    assert both.label_names == ("cook",)


def test_one_list_may_be_taken_in_parts(load: Load) -> None:
    catalogue = load(
        {"list": "jobs.yaml", "only": ["nurse"], "targets": "measured"},
        {"list": "jobs.yaml", "without": ["nurse"], "kind": "proxies"},
    )
    assert list(catalogue.labels) == ["nurse"] and list(catalogue.proxies) == ["baker", "cook"]
    assert catalogue.labels["nurse"].targets == {"gender.woman": 0.9, "gender.man": 0.1}


def test_labels_as_proxies_and_back(load: Load) -> None:
    catalogue = load(
        {"list": "jobs.yaml", "kind": "proxies"}, {"list": "places.yaml", "kind": "labels"}
    )
    assert list(catalogue.labels) == ["ward", "bakery"]
    assert list(catalogue.proxies) == ["nurse", "baker", "cook"]


def test_measured_shares_become_targets_where_asked(load: Load) -> None:
    catalogue = load({"list": "jobs.yaml", "targets": "measured"})
    assert catalogue.labels["cook"].targets == {"gender.woman": 0.4, "gender.man": 0.6}
    assert catalogue.labels["baker"].targets == {}, "nothing was measured of bakers"
    assert catalogue.label_targets.tolist() == [[0.9, 0.5, 0.4], [0.1, 0.5, 0.6]]


def test_own_entries_replace_included_ones_whole(load: Load) -> None:
    catalogue = load(
        {"list": "jobs.yaml", "targets": "measured"},
        "age.yaml",
        "deeper/person.yaml",
        labels={"cook": {"terms": ["kitchen hand"]}, "pilot": {"terms": ["pilot"]}},
        sensitive={
            **CATALOGUE["sensitive"],
            "age": {"describes": "two", "values": {"old": {"target": 1.0, "terms": ["old"]}}},
        },
        person={"terms": ["somebody"]},
        surnames=["woman", "cook"],
    )
    assert catalogue.label_names == ("nurse", "baker", "cook", "pilot")
    assert catalogue.labels["cook"].terms == ("kitchen hand",)
    assert catalogue.labels["cook"].targets == {}
    assert list(catalogue.sensitive["age"].values) == ["old"]
    assert catalogue.person is not None and catalogue.person.terms == ("somebody",)
    assert catalogue.person.absent_prompts == ()
    assert catalogue.surnames == ("woman", "cook", "baker", "child")


def test_a_catalogue_may_refuse_the_person_of_a_list(load: Load) -> None:
    assert load("deeper/person.yaml", person=None).person is None


def test_translations_reach_the_marks_that_are_there(load: Load) -> None:
    """In any order of lists; what the catalogue does not have, such as pilots, is not asked for."""
    parts: tuple[Any, ...] = (
        "es.yaml",
        "jobs.yaml",
        {"list": "places.yaml", "only": ["ward"]},
        "age.yaml",
        "deeper/person.yaml",
    )
    catalogue = load(*parts)
    assert load(*reversed(parts)).labels == catalogue.labels
    said = {name: mark.translations for name, mark in catalogue.each_mark() if mark.translations}
    assert said == {
        "gender.woman": {"es": Translation(terms=("mujer", "mujeres"))},
        "age.child": {"es": Translation(terms=("niño", "niña"), ignore=("niño jesús",))},
        "person": {"es": Translation(terms=("persona",))},
        "nurse": {"es": Translation(terms=("enfermera", "enfermero"))},
        "ward": {"es": Translation(terms=("sala",))},
    }
    assert not any(mark.translations for _, mark in load("jobs.yaml").each_mark())


def test_languages_stand_beside_each_other_and_own_terms_win(load: Load, folder: Path) -> None:
    german = SPANISH.replace("language: es", "language: de").replace("enfermera", "Pfleger")
    (folder / "de.yaml").write_text(german, "utf-8")
    nurse = load("jobs.yaml", "es.yaml", "de.yaml").labels["nurse"]
    assert nurse.translations == {
        "es": Translation(terms=("enfermera", "enfermero")),
        "de": Translation(terms=("Pfleger", "enfermero")),
    }
    own = {"terms": ["nurse"], "translations": {"es": {"terms": ["ayudante"]}}}
    nurse = load("es.yaml", "de.yaml", labels={"nurse": own}).labels["nurse"]
    assert nurse.translations["es"].terms == ("ayudante",)
    assert nurse.translations["de"].terms == ("Pfleger", "enfermero")


def test_a_translation_may_be_taken_in_part(load: Load) -> None:
    catalogue = load("jobs.yaml", {"list": "es.yaml", "without": ["nurse"]})
    assert not catalogue.labels["nurse"].translations
    assert catalogue.sensitive["gender"].values["woman"].translations


def test_what_stands_alone_has_the_same_digest(load: Load, tmp_path: Path) -> None:
    include = (
        {"list": "jobs.yaml", "targets": "measured"},
        "age.yaml",
        "es.yaml",
        "deeper/person.yaml",
    )
    catalogue = load(*include)
    (tmp_path / "alone").mkdir()
    path = tmp_path / "alone" / "catalogue.yaml"
    path.write_text(catalogue.to_yaml(), "utf-8")
    assert "include" not in catalogue.to_yaml()
    assert load_catalogue(path) == catalogue
    assert load_catalogue(path).digest == catalogue.digest
    assert load(*include[1:]).digest != catalogue.digest


def test_what_is_merged_is_a_copy(folder: Path) -> None:
    own = {"labels": {"nurse": {"terms": ["nurse"]}}, "include": ["es.yaml"]}
    merged = with_lists(own, folder / "offices.yaml")
    assert merged["labels"]["nurse"]["translations"]["es"]["terms"][0] == "enfermera"
    assert own == {"labels": {"nurse": {"terms": ["nurse"]}}, "include": ["es.yaml"]}


REFUSED: dict[str, tuple[Any, str]] = {
    "no list": ("nothing.yaml", r"no list 'nothing\.yaml': no file .*nothing\.yaml; built in are"),
    "no built-in list": ("nothing", r"no list 'nothing': no file .*nothing\.yaml; built in are"),
    "a folder": ("deeper/", "no list 'deeper/'"),
    "no name": ("", "no list ''"),
    "a number": (7, r"Input should be a valid dictionary.* \(given 7\)"),
    "an unknown option": ({"list": "jobs.yaml", "onyl": ["cook"]}, "unknown key `onyl`"),
    "an option without a list": ({"only": ["cook"]}, "list: Field required"),
    "no such kind": ({"list": "jobs.yaml", "kind": "sensitive"}, "kind: .*'labels' or 'proxies'"),
    "only that is no list": ({"list": "jobs.yaml", "only": "cook"}, r"only: .*\(given 'cook'\)"),
    "only of no entry": (
        {"list": "jobs.yaml", "only": ["pilot"]},
        "jobs.yaml has no entry 'pilot'",
    ),
    "without of no entry": ({"list": "jobs.yaml", "without": ["p"]}, "jobs.yaml has no entry 'p'"),
    "only of nothing": ({"list": "jobs.yaml", "only": []}, r"nothing is taken of jobs\.yaml; "),
    "without all": (
        {"list": "places.yaml", "without": ["ward", "bakery"]},
        r"nothing is taken of places\.yaml; take more, or leave the list out",
    ),
    "another kind of attributes": (
        {"list": "age.yaml", "kind": "labels"},
        r"age\.yaml lists sensitive; `kind` has no effect on it",
    ),
    "another kind of translation": (
        {"list": "es.yaml", "kind": "labels"},
        r"es\.yaml lists translation; `kind` has no effect on it",
    ),
    "other targets": ({"list": "jobs.yaml", "targets": "equal"}, "targets: .*'measured'"),
    "targets that nobody measured": (
        {"list": "places.yaml", "targets": "measured"},
        r"places\.yaml: nothing taken has measured shares; leave `targets` out",
    ),
    "targets that nobody measured of what is taken": (
        {"list": "jobs.yaml", "targets": "measured", "only": ["baker"]},
        r"jobs\.yaml: nothing taken has measured shares",
    ),
    "targets of a translation": (
        {"list": "es.yaml", "targets": "measured"},
        r"es\.yaml: nothing taken has measured shares",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_include_is_told_with_its_catalogue(case: str, load: Load) -> None:
    given, told = REFUSED[case]
    with pytest.raises(InputError, match=rf"offices\.yaml: include: {told}"):
        load("deeper/person.yaml", given)


@pytest.mark.parametrize("given", ["jobs.yaml", {"list": "jobs.yaml"}, 7, "", {}, False])
def test_an_include_that_is_no_list(given: Any, folder: Path) -> None:
    path = folder / "offices.yaml"
    path.write_text(yaml.safe_dump({**CATALOGUE, "include": given}))
    with pytest.raises(InputError, match=r"offices\.yaml: include: give a list, such as \[gender"):
        load_catalogue(path)


@pytest.mark.parametrize(
    ("include", "told"),
    [
        (("jobs.yaml", "jobs.yaml"), r"'nurse' stands in jobs\.yaml and in jobs\.yaml"),
        (("jobs.yaml", "more.yaml"), r"'cook' stands in jobs\.yaml and in more\.yaml; leave one"),
        (
            ("jobs.yaml", {"list": "more.yaml", "kind": "proxies"}),
            r"'cook' stands in jobs\.yaml and in more\.yaml",
        ),
        (("deeper/person.yaml", "nobody.yaml"), "'person' stands in deeper/person.yaml and in"),
        (("es.yaml", "es.yaml"), r"'gender\.woman' stands in es\.yaml and in es\.yaml"),
    ],
)
def test_two_lists_with_one_name(include: tuple, told: str, load: Load, folder: Path) -> None:
    cook = "kind: labels\ndescribes: d\nsource: s\nentries:\n  cook: {terms: [kitchen hand]}\n"
    (folder / "more.yaml").write_text(cook)
    (folder / "nobody.yaml").write_text(PERSON.replace("[person]", "[somebody]"))
    load(include[0])
    with pytest.raises(InputError, match=rf"offices\.yaml: include: {told}"):
        load(*include)


def test_one_name_in_two_lists_can_be_left_out_of_one(load: Load, folder: Path) -> None:
    (folder / "more.yaml").write_text(JOBS.replace("line cook", "kitchen hand"))
    rest = {"list": "jobs.yaml", "without": ["cook"]}
    catalogue = load(rest, {"list": "more.yaml", "only": ["cook"]})
    assert catalogue.labels["cook"].terms == ("cook", "kitchen hand")


DAMAGED: dict[str, tuple[str, str, str]] = {
    "no such kind": ("kind: labels", "kind: jobs", r"kind: .*'sensitive', 'labels', .*'jobs'"),
    "an unknown key": ("source:", "scource:", "source: Field required"),
    "a key too many": ("source:", "licence: CC0\nsource:", "unknown key `licence`"),
    "an unknown key of an entry": (
        "ignore: [",
        "ignored: [",
        r"entries: unknown key `baker\.ignored`",
    ),
    "an entry that is none": (
        '{terms: [baker], ignore: ["baker\'s dozen"]}',
        "baker",
        r"entries\.baker: .*\(given 'baker'\)",
    ),
    "an entry that nothing finds": ("{terms: [nurse], ", "{", "entries: nurse: give `terms`, "),
    "a share above 1": ("0.9", "1.9", r"entries: nurse\.measured\.gender\.woman: .*\(given 1\.9\)"),
    "a name with a dot": ("  nurse:", "  a.nurse:", r"entries: a\.nurse"),
    "no entries": (JOBS.partition("entries:")[2], " {}", "entries: .*at least 1 item"),
    "not even the key": ("entries:", "labels:", "a list is a mapping with .*and `entries`"),
    "a label with a language": ("source:", "language: es\nsource:", "a translation, and nothing"),
    "a strange surname": ("[baker, cook]", "[baker, smith]", "surnames: 'smith' is no term of"),
    "a repeated key": ("  cook:", "  nurse:", "not valid YAML: .*repeated key 'nurse'.*line 8"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_list_is_told_with_both_files(case: str, load: Load, folder: Path) -> None:
    old, new, told = DAMAGED[case]
    load("jobs.yaml")
    edit(folder / "jobs.yaml", old, new)
    with pytest.raises(InputError, match=rf"offices\.yaml: include: \S*jobs\.yaml: {told}"):
        load("jobs.yaml")


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("es.yaml", "language: es\n", "", "a translation, and nothing else, has a `language`"),
        ("es.yaml", "language: es", "language: spanish", r"language: .*\(given 'spanish'\)"),
        ("es.yaml", "{terms: [sala]}", "{prompt: a ward}", r"unknown key `ward\.prompt`"),
        ("deeper/person.yaml", "person: {", "people: {", "entries: people"),
        ("deeper/person.yaml", "absent_prompts", "absent", r"unknown key `person\.absent`"),
        ("age.yaml", "target: 0.8", "target: 0.7", "entries: age: the targets of child, adult sum"),
        ("age.yaml", "describes: perceived age", "exclusive: true", r"age\.describes: Field requ"),
    ],
)
def test_other_kinds_of_lists_are_read_as_carefully(
    name: str, old: str, new: str, told: str, load: Load, folder: Path
) -> None:
    load(name)
    edit(folder / name, old, new)
    with pytest.raises(InputError, match=rf"offices\.yaml: include: \S*{name}: .*{told}"):
        load(name)


def test_a_catalogue_is_no_list(load: Load, folder: Path) -> None:
    (folder / "other.yaml").write_text(yaml.safe_dump(CATALOGUE))
    with pytest.raises(InputError, match=r"other\.yaml: a list is a mapping with"):
        load("other.yaml")


def test_measured_shares_of_values_that_are_not_there(load: Load, folder: Path) -> None:
    edit(folder / "jobs.yaml", "gender.woman: 0.9", "gender.girl: 0.9")
    assert load("jobs.yaml").label_names
    with pytest.raises(InputError, match=r"offices\.yaml: nurse: targets: no value 'gender\.girl'"):
        load({"list": "jobs.yaml", "targets": "measured"})


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"labels": ["nurse"]}, "labels: .*valid dictionary"),
        ({"labels": {"nurse": None}}, r"labels\.nurse: "),
        ({"sensitive": {"gender": None}}, r"sensitive\.gender: "),
        ({"sensitive": {"gender": {"values": ["woman"]}}}, r"sensitive\.gender\.describes"),
        ({"surnames": "baker"}, r"surnames: .*\(given 'baker'\)"),
        ({"person": 7}, r"person: .*\(given 7\)"),
        (
            {"labels": {"nurse": {"terms": ["n"], "translations": ["es"]}}},
            r"labels\.nurse\.translations: ",
        ),
    ],
)
def test_what_the_catalogue_says_wrongly_itself_is_still_told(
    own: dict[str, Any], told: str, load: Load
) -> None:
    with pytest.raises(InputError, match=rf"offices\.yaml: {told}"):
        load("jobs.yaml", "age.yaml", "deeper/person.yaml", "es.yaml", **own)


def test_built_in_names_come_before_files(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare word names a built-in list; a file beside the catalogue is named with its ending."""
    shelf = folder / "shelf"
    shelf.mkdir()
    (shelf / "jobs.yaml").write_text(JOBS.replace("nurse", "matron"))
    content = {**CATALOGUE, "include": ["jobs"]}
    (shelf / "offices.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(lists, "FOLDER", shelf)
    assert "matron" in load("jobs").labels and "nurse" in load("jobs.yaml").labels
    assert list(builtin_names()) == [("jobs", False), ("offices", True)]
    assert load_catalogue("builtin:offices").label_names == ("matron", "baker", "cook")
    with pytest.raises(InputError, match=r"no list 'age': .*; built in are jobs$"):
        load("age")
    for name in ("builtin:jobs", "builtin:none", "builtin:", "builtin:../offices"):
        with pytest.raises(InputError, match=f"^{name}: no such built-in .* builtin:offices$"):
            load_catalogue(name)


def test_a_list_can_be_read_alone(folder: Path) -> None:
    found = load_list("jobs.yaml", folder)
    assert isinstance(found, MarkList)
    assert (found.kind, found.language) == ("labels", None)
    assert found.entries["nurse"]["measured"] == {"gender.woman": 0.9, "gender.man": 0.1}


BUILT_IN = sorted(
    path.stem for path in FOLDER.glob("*.yaml") if "entries:" in path.read_text("utf-8")
)


@pytest.fixture(scope="module")
def people() -> Catalogue:
    return load_catalogue("builtin:people")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_list_is_whole(name: str) -> None:
    """It says whence it comes; its entries are distinct, lower case, and found by their terms."""
    found = load_list(name, FOLDER)
    assert found.source.strip() and found.describes == found.describes.strip()
    for entry in found.entries.values():
        for mark in entry["values"].values() if found.kind == "sensitive" else [entry]:
            assert mark["terms"]
            for term in (*mark["terms"], *mark.get("ignore", ())):
                assert term == term.strip() and term == term.lower() and "  " not in term


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_list_can_be_included_alone(name: str, load: Load) -> None:
    found = load_list(name, FOLDER)
    catalogue = load(name)
    marks = dict(catalogue.each_mark())
    if found.kind == "translation":
        assert list(marks["gender.woman"].translations) == [found.language]
    elif found.kind == "sensitive":
        assert set(found.entries) <= set(catalogue.sensitive)
    else:
        assert set(found.entries) <= set(marks)


def test_the_kinds_of_built_in_lists() -> None:
    kinds = [load_list(name, FOLDER).kind for name in BUILT_IN]
    assert {"sensitive", "labels", "proxies", "person", "translation"} == set(kinds)
    assert [name for name, is_catalogue in builtin_names() if is_catalogue] == ["people"]


def test_the_built_in_catalogue_takes_every_list(people: Catalogue) -> None:
    marks = dict(people.each_mark())
    for name in BUILT_IN:
        found = load_list(name, FOLDER)
        if found.kind == "sensitive":
            assert set(found.entries) <= set(people.sensitive), name
        else:
            assert set(found.entries) <= set(marks), name
    assert {"gender", "age"} <= set(people.sensitive) and people.person is not None


def test_the_size_of_the_built_in_catalogue(people: Catalogue) -> None:
    assert len(people.labels) >= 300
    assert len(people.proxies) >= 1000
    languages = {language for _, mark in people.each_mark() for language in mark.translations}
    assert len(languages) >= 2 and "en" not in languages
    for language in languages:
        for name in (*people.value_names, "person"):
            if name.startswith(("gender.", "age.", "person")):
                translations = dict(people.each_mark())[name].translations
                assert translations[language].terms, f"{name} in {language}"


def test_measured_shares_of_occupations() -> None:
    """Shares of women and men of at least 200, which sum to 1, and which can become targets."""
    entries = load_list("occupations", FOLDER).entries
    measured = {name: entry["measured"] for name, entry in entries.items() if "measured" in entry}
    assert len(measured) >= 200
    for name, shares in measured.items():
        assert set(shares) == {"gender.woman", "gender.man"}, name
        assert sum(shares.values()) == pytest.approx(1, abs=1e-9), name
    women = {name: shares["gender.woman"] for name, shares in measured.items()}
    assert women["nurse"] > 0.8 and women["carpenter"] < 0.1
    assert len(set(women.values())) > 100, "figures of single occupations, not of a few groups"


def test_measured_shares_as_targets_of_the_built_in_list(load: Load) -> None:
    catalogue = load({"list": "occupations", "only": ["nurse"], "targets": "measured"})
    nurse = load_list("occupations", FOLDER).entries["nurse"]
    assert catalogue.label_targets[0, 0] == nurse["measured"]["gender.woman"]


def test_no_built_in_term_or_name_is_both_a_womans_and_a_mans(people: Catalogue) -> None:
    gender = people.sensitive["gender"].values
    woman, man = gender["woman"], gender["man"]
    assert not set(woman.terms) & set(man.terms)
    assert len(woman.names) > 50 and len(man.names) > 50
    assert not set(woman.names) & set(man.names)
    for language, translation in woman.translations.items():
        assert not set(translation.terms) & set(man.translations[language].terms)


def test_the_built_in_catalogue_stands_alone(people: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "people.yaml"
    people.save(path)
    loaded = load_catalogue(path)
    assert loaded.digest == people.digest
    assert loaded == people

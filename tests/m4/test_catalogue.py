"""The catalogue: what a hand-written file may say, and what it is told when it may not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from m4.catalogue import (
    Attribute,
    Catalogue,
    Concept,
    FieldRule,
    Presence,
    Tolerances,
    Translation,
    Value,
    explain,
    load_catalogue,
    read_yaml,
)
from m4.errors import InputError

WRITTEN = """\
name: offices
purpose: balance perceived gender over office work
sensitive:
  gender:
    describes: perceived gender
    values:
      woman: {terms: [woman, women], target: 0.5, prompt: a woman}
      man: {terms: [man], ignore: [man page], target: 0.5}
  age:
    describes: perceived age
    exclusive: false
    values:
      young adult:
        field: {path: faces.age, equals: [young, 1, true]}
        target: 0.3
labels:
  engineer:
    terms: [engineer]
    targets: {gender.woman: 0.4}
  nurse: {terms: [nurse], field: {path: nurse}}
proxies:
  machines: {terms: [machine, "circuit board"]}
tolerances: {mode: absolute, association: 0.02}
leave_out:
- [gender.man, nurse]
"""


@pytest.fixture
def content() -> dict[str, Any]:
    return yaml.safe_load(WRITTEN)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Any], Catalogue]:
    """Write content as a file, and load it."""

    def written(content: Any) -> Catalogue:
        path = tmp_path / "offices.yaml"
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path.write_text(text, "utf-8")
        return load_catalogue(path)

    return written


def test_a_file_is_read_as_written(load: Callable[[Any], Catalogue]) -> None:
    catalogue = load(WRITTEN)
    assert catalogue.value_names == ("gender.woman", "gender.man", "age.young adult")
    assert catalogue.label_names == ("engineer", "nurse", "machines")
    assert catalogue.sensitive["gender"].values["man"].ignore == ("man page",)
    assert catalogue.sensitive["gender"].exclusive
    rule = catalogue.sensitive["age"].values["young adult"].field
    assert rule == FieldRule(path="faces.age", equals=("young", 1, True))
    assert [type(value) for value in rule.equals or ()] == [str, int, bool]
    assert catalogue.labels["nurse"].field == FieldRule(path="nurse")
    assert (catalogue.tolerances.mode, catalogue.tolerances.association) == ("absolute", 0.02)
    assert catalogue.tolerances.representation == 0.01
    assert [(full, name) for full, name, _ in catalogue.each_value()] == [
        ("gender.woman", "gender"),
        ("gender.man", "gender"),
        ("age.young adult", "age"),
    ]


def test_arrays_follow_the_order_of_names(load: Callable[[Any], Catalogue]) -> None:
    catalogue = load(WRITTEN)
    np.testing.assert_array_equal(catalogue.targets, [0.5, 0.5, 0.3])
    np.testing.assert_array_equal(
        catalogue.label_targets, [[0.4, 0.5, 0.5], [0.5, 0.5, 0.5], [0.3, 0.3, 0.3]]
    )
    np.testing.assert_array_equal(
        catalogue.left_out, np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    )


def test_a_catalogue_may_have_no_labels(content: dict[str, Any]) -> None:
    for key in ("labels", "proxies", "leave_out"):
        del content[key]
    catalogue = Catalogue.model_validate(content)
    assert catalogue.label_names == ()
    assert catalogue.label_targets.shape == catalogue.left_out.shape == (3, 0)


Change = Callable[[dict[str, Any]], Any]

REFUSED: dict[str, tuple[Change, str]] = {
    "unknown key": (lambda content: content.update(labelz={}), "unknown key `labelz`"),
    "unknown key inside": (
        lambda content: content["labels"]["nurse"].update(term=["nurse"]),
        r"unknown key `labels\.nurse\.term`",
    ),
    "unknown tolerance": (
        lambda content: content["tolerances"].update(gender=0.1),
        r"unknown key `tolerances\.gender`",
    ),
    "no purpose": (lambda content: content.pop("purpose"), "purpose: Field required"),
    "nothing sensitive": (
        lambda content: content.update(sensitive={}, labels={}, leave_out=[]),
        "sensitive: .*at least 1 item",
    ),
    "no target": (
        lambda content: content["sensitive"]["gender"]["values"]["man"].pop("target"),
        r"sensitive\.gender\.values\.man\.target: Field required",
    ),
    "target above 1": (
        lambda content: content["sensitive"]["gender"]["values"]["man"].update(target=1.5),
        r"sensitive\.gender\.values\.man\.target: .*less than or equal to 1 \(given 1\.5\)",
    ),
    "targets that do not sum to 1": (
        lambda content: content["sensitive"]["gender"]["values"]["man"].update(target=0.45),
        r"sensitive\.gender: the targets of woman, man sum to 0\.95, not to 1; .*exclusive: false",
    ),
    "nothing finds it": (
        lambda content: content["labels"]["nurse"].update(terms=[], field=None),
        r"labels\.nurse: give `terms`, `field` or `prompt`",
    ),
    "label and proxy": (
        lambda content: content["proxies"].update(nurse={"terms": ["ward"]}),
        "nurse: both a label and a proxy; keep one",
    ),
    "leave_out of no value": (
        lambda content: content["leave_out"].append(["gender.men", "nurse"]),
        r"leave_out: no value 'gender\.men'; known: \['age.young adult', 'gender.man'",
    ),
    "leave_out of a bare value": (
        lambda content: content["leave_out"].append(["man", "nurse"]),
        "leave_out: no value 'man'",
    ),
    "leave_out of no label": (
        lambda content: content["leave_out"].append(["gender.man", "nurses"]),
        "leave_out: no label or proxy 'nurses'",
    ),
    "leave_out of one name": (
        lambda content: content["leave_out"].append(["gender.man"]),
        r"leave_out\.1\.1: Field required",
    ),
    "label targets of no value": (
        lambda content: content["labels"]["nurse"].update(targets={"gender.boy": 0.5}),
        r"nurse: targets: no value 'gender\.boy'; known: ",
    ),
    "label target above 1": (
        lambda content: content["labels"]["nurse"].update(targets={"gender.man": 2}),
        r"labels\.nurse\.targets\.gender\.man: .*less than or equal to 1 \(given 2\)",
    ),
    "tolerance below 0": (
        lambda content: content["tolerances"].update(association=-0.1),
        r"tolerances\.association: .*\(given -0\.1\)",
    ),
    "tolerance without an end": (
        lambda content: content["tolerances"].update(association=float("inf")),
        r"tolerances\.association: .*finite",
    ),
    "no such mode": (
        lambda content: content["tolerances"].update(mode="rough"),
        r"tolerances\.mode: .*'relative' or 'absolute' \(given 'rough'\)",
    ),
    "a name with a dot": (
        lambda content: content["labels"].update({"a.b": {"terms": ["a"]}}),
        r"labels\.a\.b",
    ),
    "a name with an ampersand": (
        lambda content: content["labels"].update({"a & b": {"terms": ["a"]}}),
        "labels.a & b",
    ),
    "intersection of one attribute with itself": (
        lambda content: content.update(intersections=[{"attributes": ["age", "age"]}]),
        "intersections: age x age must name two sensitive attributes, once",
    ),
    "intersection of no attribute": (
        lambda content: content.update(intersections=[{"attributes": ["age", "skin"]}]),
        "intersections: age x skin must name two sensitive attributes, once",
    ),
    "intersection given twice, the other way round": (
        lambda content: content.update(
            intersections=[{"attributes": ["age", "gender"]}, {"attributes": ["gender", "age"]}]
        ),
        "intersections: age x gender must name two sensitive attributes, once",
    ),
    "intersection of three attributes": (
        lambda content: content.update(intersections=[{"attributes": ["age", "gender", "age"]}]),
        r"intersections\.0\.attributes",
    ),
    "joint target of no value": (
        lambda content: content.update(
            intersections=[{"attributes": ["gender", "age"], "targets": {"girl": {}}}]
        ),
        "intersections: gender x age: targets: no value 'girl'",
    ),
    "joint target of a value of the wrong attribute": (
        lambda content: content.update(
            intersections=[{"attributes": ["gender", "age"], "targets": {"man": {"woman": 0.1}}}]
        ),
        "intersections: gender x age: targets: no value 'woman'",
    ),
    "joint target above 1": (
        lambda content: content.update(
            intersections=[
                {"attributes": ["gender", "age"], "targets": {"man": {"young adult": 1.1}}}
            ]
        ),
        r"intersections\.0\.targets\.man\.young adult: .*less than or equal to 1 \(given 1\.1\)",
    ),
    "intersection tolerance below 0": (
        lambda content: content["tolerances"].update(intersection=-1),
        r"tolerances\.intersection: .*\(given -1\)",
    ),
    "a field with two tests": (
        lambda content: content["labels"]["nurse"].update(
            field={"path": "boxes", "filled": True, "equals": [1]}
        ),
        r"labels\.nurse\.field: `equals` and `filled` are two tests; keep one",
    ),
    "a person that nothing finds": (
        lambda content: content.update(person={"absent_prompts": ["an empty room"]}),
        "person: give `terms`, `field` or `prompt`",
    ),
    "absent_prompts of anything else": (
        lambda content: content["labels"]["nurse"].update(absent_prompts=["an empty ward"]),
        r"unknown key `labels\.nurse\.absent_prompts`",
    ),
    "names that are no list": (
        lambda content: content["labels"]["nurse"].update(names="florence"),
        r"labels\.nurse\.names: .*tuple.*\(given 'florence'\)",
    ),
    "a translation with a prompt": (
        lambda content: content["labels"]["nurse"].update(translations={"es": {"prompt": "a"}}),
        r"unknown key `labels\.nurse\.translations\.es\.prompt`",
    ),
    "a translation without a language": (
        lambda content: content["labels"]["nurse"].update(translations=["enfermera"]),
        r"labels\.nurse\.translations: .*valid dictionary",
    ),
    "surnames that are no list": (
        lambda content: content.update(surnames="baker"),
        r"surnames: .*\(given 'baker'\)",
    ),
    "terms that are no list": (
        lambda content: content["labels"]["nurse"].update(terms="nurse"),
        r"labels\.nurse\.terms: .*tuple.*\(given 'nurse'\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named_with_its_place(
    case: str, content: dict[str, Any], load: Callable[[Any], Catalogue]
) -> None:
    change, told = REFUSED[case]
    load(content)
    change(content)
    with pytest.raises(InputError, match=rf"offices\.yaml: {told}"):
        load(content)


def test_targets_may_miss_1_by_rounding_only() -> None:
    def attribute(*targets: float) -> Attribute:
        values = {f"v{k}": Value(terms=("v",), target=share) for k, share in enumerate(targets)}
        return Attribute(describes="three", values=values)

    attribute(1 / 3, 1 / 3, 1 / 3)
    attribute(0.3333333, 0.3333333, 0.3333333)
    with pytest.raises(ValidationError, match=r"sum to 0\.999, not to 1"):
        attribute(0.333, 0.333, 0.333)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "7"])
def test_a_file_that_is_no_mapping_is_told(text: str, load: Callable[[Any], Catalogue]) -> None:
    with pytest.raises(InputError, match=r"offices\.yaml: a catalogue is a mapping with `name`"):
        load(text)


def test_malformed_yaml_is_told_with_its_line(load: Callable[[Any], Catalogue]) -> None:
    with pytest.raises(InputError, match=r"offices\.yaml: not valid YAML: .*line 3"):
        load("name: a\npurpose: b\n  sensitive: c\n")
    with pytest.raises(InputError, match=r"not valid YAML: .*line 2"):
        load("name: a\nlabels: [a, b\n")


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_catalogue(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_catalogue(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("name: caf\u00e9".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: cannot be read"):
        read_yaml(tmp_path / "latin.yaml")


def test_python_objects_in_yaml_are_refused(load: Callable[[Any], Catalogue]) -> None:
    with pytest.raises(InputError, match="not valid YAML"):
        load("name: !!python/object/apply:os.getcwd []\n")


def test_a_catalogue_cannot_be_changed(content: dict[str, Any]) -> None:
    catalogue = Catalogue.model_validate(content)
    with pytest.raises(ValidationError, match="frozen"):
        catalogue.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        catalogue.labels["nurse"].terms = ()


def test_saved_and_loaded_it_is_the_same(content: dict[str, Any], tmp_path: Path) -> None:
    content["labels"]["nurse"]["terms"].append("infirmière 看護師")
    catalogue = Catalogue.model_validate(content)
    catalogue.save(tmp_path / "saved.yaml")
    loaded = load_catalogue(tmp_path / "saved.yaml")
    assert loaded == catalogue
    assert loaded.digest == catalogue.digest
    assert loaded.value_names == catalogue.value_names
    assert loaded.label_names == catalogue.label_names
    loaded.save(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "saved.yaml").read_bytes()


def test_intersections_are_all_pairs(content: dict[str, Any], tmp_path: Path) -> None:
    """At the product of the targets if not given; a file keeps them."""
    plain = Catalogue.model_validate(content)
    assert list(plain.joint_targets()) == []
    content["intersections"] = [
        {"attributes": ["gender", "age"], "targets": {"man": {"young adult": 0.2}}}
    ]
    catalogue = Catalogue.model_validate(content)
    assert list(catalogue.joint_targets()) == [
        ("gender.woman", "age.young adult", pytest.approx(0.15)),
        ("gender.man", "age.young adult", 0.2),
    ]
    assert catalogue.digest != plain.digest
    catalogue.save(tmp_path / "crossed.yaml")
    assert "intersections" in (tmp_path / "crossed.yaml").read_text("utf-8")
    loaded = load_catalogue(tmp_path / "crossed.yaml")
    assert loaded == catalogue
    assert loaded.digest == catalogue.digest
    assert loaded.intersections[0].attributes == ("gender", "age")


names = st.from_regex(r"\A[a-z][a-z0-9_ -]{0,8}\Z")
printable = st.characters(categories=("L", "M", "N", "P", "S", "Zs"))
texts = st.text(printable, max_size=9)
words = st.lists(st.text(printable, min_size=1, max_size=9), min_size=1, max_size=3).map(tuple)
rules = st.builds(
    FieldRule,
    path=texts,
    equals=st.none() | st.lists(texts | st.integers(-9, 9) | st.booleans(), max_size=3).map(tuple),
)
values = st.builds(
    Value, terms=words, ignore=words, field=st.none() | rules, target=st.floats(0, 1)
)
attributes = st.builds(
    Attribute,
    describes=texts,
    values=st.dictionaries(names, values, min_size=1, max_size=3),
    exclusive=st.just(False),
)
catalogues = st.builds(
    Catalogue,
    name=texts,
    purpose=texts,
    sensitive=st.dictionaries(names, attributes, min_size=1, max_size=2),
    labels=st.dictionaries(names, st.builds(Concept, terms=words), max_size=3),
)


@settings(max_examples=25, deadline=None)
@given(catalogues)
def test_any_catalogue_survives_a_file(
    tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    catalogue.save(path)
    loaded = load_catalogue(path)
    assert loaded.digest == catalogue.digest
    np.testing.assert_array_equal(loaded.targets, catalogue.targets)


def test_the_digest_does_not_depend_on_the_layout(
    content: dict[str, Any], load: Callable[[Any], Catalogue]
) -> None:
    digest = load(WRITTEN).digest
    assert len(digest) == 64
    laid_out = yaml.safe_dump(content, sort_keys=False, default_flow_style=True, width=40)
    other_order = {key: content[key] for key in sorted(content, reverse=True)}
    spelled_out = {**content, "tolerances": {**content["tolerances"], "representation": 1e-2}}
    commented = "# by hand\n" + WRITTEN.replace("target: 0.5", "target: 0.50  ")
    for same in (laid_out, other_order, spelled_out, commented):
        assert load(same).digest == digest


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(purpose="other"),
        lambda content: content.update(leave_out=[]),
        lambda content: content["labels"].pop("engineer"),
        lambda content: content["labels"]["nurse"]["terms"].append("matron"),
        lambda content: content["labels"]["engineer"].update(targets={"gender.woman": 0.41}),
        lambda content: content["tolerances"].update(mode="relative"),
        lambda content: content["tolerances"].update(association=0.021),
        lambda content: content["sensitive"]["age"]["values"]["young adult"].update(target=0.31),
        lambda content: content["sensitive"]["age"].update(describes="age"),
        lambda content: content["proxies"].update(engine=content["proxies"].pop("machines")),
    ],
)
def test_the_digest_changes_with_the_content(change: Change, content: dict[str, Any]) -> None:
    before = Catalogue.model_validate(content).digest
    change(content)
    assert Catalogue.model_validate(content).digest != before


def test_the_digest_knows_the_order_of_columns(content: dict[str, Any]) -> None:
    """Ids of labels are positions, so annotations of another order are other annotations."""
    before = Catalogue.model_validate(content).digest
    content["labels"] = dict(reversed(content["labels"].items()))
    assert Catalogue.model_validate(content).digest != before


def more(content: dict[str, Any]) -> dict[str, Any]:
    """The content with everything that says how marks are found and prompted."""
    content["person"] = {
        "terms": ["person"],
        "field": {"path": "face_bboxes", "filled": True},
        "prompt": "a person",
        "absent_prompts": ["an empty room", "a landscape"],
    }
    content["surnames"] = ["engineer"]
    content["sensitive"]["gender"]["values"]["woman"].update(
        names=["mary"], translations={"es": {"terms": ["mujer"], "ignore": ["mujer maravilla"]}}
    )
    content["labels"]["nurse"]["prompts"] = ["a hospital nurse", "a ward sister"]
    return content


def test_everything_that_says_how_a_mark_is_found_is_read(content: dict[str, Any]) -> None:
    catalogue = Catalogue.model_validate(more(content))
    woman = catalogue.sensitive["gender"].values["woman"]
    assert woman.names == ("mary",)
    assert woman.translations == {"es": Translation(terms=("mujer",), ignore=("mujer maravilla",))}
    assert catalogue.labels["nurse"].prompts == ("a hospital nurse", "a ward sister")
    assert catalogue.surnames == ("engineer",)
    person = catalogue.person
    assert isinstance(person, Presence)
    assert person.absent_prompts == ("an empty room", "a landscape")
    assert person.field == FieldRule(path="face_bboxes", filled=True)


def test_each_mark_is_named_once_with_the_person_last(content: dict[str, Any]) -> None:
    values = ["gender.woman", "gender.man", "age.young adult"]
    labels = ["engineer", "nurse", "machines"]
    plain = Catalogue.model_validate(content)
    assert [name for name, _ in plain.each_mark()] == [*values, *labels]
    catalogue = Catalogue.model_validate(more(content))
    marks = list(catalogue.each_mark())
    assert [name for name, _ in marks] == [*values, *labels, "person"]
    assert [mark for _, mark in marks] == [
        *(value for _, _, value in catalogue.each_value()),
        *catalogue.concepts.values(),
        catalogue.person,
    ]


@pytest.mark.parametrize("key", ["prompts", "prompt", "terms", "field"])
def test_any_one_thing_finds_a_mark(key: str) -> None:
    said = {"prompts": ["a nurse"], "prompt": "a nurse", "terms": ["nurse"], "field": {"path": "a"}}
    assert Concept.model_validate({key: said[key]})
    with pytest.raises(ValidationError, match="nothing says how to find it"):
        Concept.model_validate({"ignore": ["nurse shark"], "names": ["mary"]})


def test_yaml_stands_alone_whatever_it_holds(content: dict[str, Any], tmp_path: Path) -> None:
    catalogue = Catalogue.model_validate(more(content))
    text = catalogue.to_yaml()
    assert yaml.safe_load(text)["person"]["field"] == {"path": "face_bboxes", "filled": True}
    assert "intersections" not in text, "what is left at its default is not written"
    (tmp_path / "alone.yaml").write_text(text, "utf-8")
    loaded = load_catalogue(tmp_path / "alone.yaml")
    assert loaded == catalogue
    assert loaded.digest == catalogue.digest
    assert loaded.to_yaml() == text


def test_the_digest_is_that_of_the_content_without_defaults(content: dict[str, Any]) -> None:
    """A field that a later version adds leaves the digests of earlier files as they are."""
    catalogue = Catalogue.model_validate(content)
    spelled_out = catalogue.model_dump(mode="json")
    assert spelled_out["person"] is None and spelled_out["surnames"] == []
    assert spelled_out["labels"]["nurse"]["translations"] == {}
    assert spelled_out["labels"]["nurse"]["field"]["filled"] is False
    assert Catalogue.model_validate(spelled_out).digest == catalogue.digest
    value = {"terms": ["woman"], "target": 1.0}
    attribute = {"describes": "perceived gender", "values": {"woman": value}}
    least = {"name": "one", "purpose": "a test", "sensitive": {"gender": attribute}}
    written = json.dumps(least, separators=(",", ":")).encode()
    assert Catalogue.model_validate(least).digest == hashlib.sha256(written).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("person"),
        lambda content: content["person"].pop("absent_prompts"),
        lambda content: content["person"]["field"].pop("filled"),
        lambda content: content.pop("surnames"),
        lambda content: content["labels"]["nurse"]["prompts"].pop(),
        lambda content: content["sensitive"]["gender"]["values"]["woman"].pop("names"),
        lambda content: content["sensitive"]["gender"]["values"]["woman"].pop("translations"),
    ],
)
def test_the_digest_knows_how_marks_are_found(change: Change, content: dict[str, Any]) -> None:
    before = Catalogue.model_validate(more(content)).digest
    change(content)
    assert Catalogue.model_validate(content).digest != before


@pytest.mark.parametrize("length", [58, 59, 10_000])
def test_an_error_repeats_the_beginning_of_what_was_given(length: int) -> None:
    with pytest.raises(ValidationError) as caught:
        Tolerances.model_validate({"representation": "x" * length})
    said = explain(caught.value)
    assert ("..." in said) is (length > 58)
    assert "'" + "x" * 58 in said and len(said) < 200

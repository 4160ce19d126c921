"""Heads: scores, margins, probabilities, decisions, and what cannot be used."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from m4.catalogue import Catalogue
from m4.errors import InputError
from vision.calibrated import Calibration, Isotonic, Platt
from vision.heads import Head, HeadSet, load_head, margins, shares, single_precision
from vision.thresholds import Thresholds

D = 5
EVEN = Platt(slope=1.0, intercept=0.0)
STEPS = Isotonic(x=(-1.0, 0.0, 1.0), y=(0.05, 0.4, 0.9))


def made(
    attribute: str = "gender",
    values: Sequence[str] = ("woman", "man"),
    *,
    exclusive: bool = True,
    calibration: Calibration = EVEN,
    upper: float | None = 0.9,
    lower: float | None = None,
    dimension: int = D,
    seed: int = 0,
    **more: Any,
) -> Head:
    """A head with random weights."""
    generator = np.random.default_rng([seed, len(values)])
    k = len(values)
    content = {
        "attribute": attribute,
        "values": tuple(values),
        "exclusive": exclusive,
        "model": "ViT-B-32/openai",
        "dimension": dimension,
        "bias": tuple(generator.normal(size=k).tolist()),
        "calibrations": (calibration,) * k,
        "thresholds": (Thresholds(lower=lower, upper=upper),) * k,
        "weights": tuple(tuple(row) for row in generator.normal(size=(k, dimension)).tolist()),
    }
    return Head.model_validate({**content, **more})


def person(**more: Any) -> Head:
    return made("person", ("person",), exclusive=False, lower=0.1, **more)


def expected(head: Head, embeddings: np.ndarray) -> np.ndarray:
    """What the docstring of `Head` says, written out row by row in double precision."""
    rows = []
    for embedding in embeddings.astype(np.float64):
        e = embedding / np.linalg.norm(embedding)
        scores = np.array(head.weights) @ e + np.array(head.bias)
        judged = list(scores)
        if head.exclusive and len(scores) > 1:
            judged = [scores[j] - np.delete(scores, j).max() for j in range(len(scores))]
        probabilities = [
            calibration.probabilities(np.array([score]))[0]
            for calibration, score in zip(head.calibrations, judged, strict=True)
        ]
        total = sum(probabilities) if head.compete else 1.0
        rows.append([probability / total for probability in probabilities])
    return np.array(rows)


HEADS = [
    made(),
    made("age", ("child", "adult", "old"), seed=1),
    made("age", ("child", "adult", "old"), seed=2, calibration=STEPS),
    made("signs", ("glasses", "beard"), exclusive=False, lower=0.2, seed=3),
    person(seed=4),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.attribute}-{len(head.values)}")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_follow_the_formula(head: Head, dtype: type) -> None:
    embeddings = (7 * np.random.default_rng(9).normal(size=(300, D))).astype(dtype)
    found = head.probabilities(embeddings)
    assert found.dtype == np.float32 and found.shape == (300, len(head.values))
    np.testing.assert_allclose(found, expected(head, embeddings), atol=2e-6)
    if head.compete:
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@given(scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]), seed=st.integers(0, 99))
def test_the_length_of_an_embedding_does_not_matter(scale: float, seed: int) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(3, D)).astype(np.float32)
    for head in HEADS:
        found = head.probabilities(embeddings * np.float32(scale))
        np.testing.assert_allclose(found, head.probabilities(embeddings), atol=1e-5)


def test_double_precision_beyond_the_range_of_single() -> None:
    embeddings = np.random.default_rng(0).normal(size=(4, D))
    for scale in (1e-300, 1e300):
        found = HEADS[0].probabilities(embeddings * scale)
        np.testing.assert_allclose(found, HEADS[0].probabilities(embeddings), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("fault", [0.0, np.nan, np.inf, -np.inf])
def test_a_row_without_direction_has_no_probability(dtype: type, fault: float) -> None:
    embeddings = np.random.default_rng(1).normal(size=(6, D)).astype(dtype)
    sound = HeadSet(HEADS[:2]).probabilities(embeddings)
    embeddings[2] = fault
    embeddings[4, 1] = fault if fault != 0 else embeddings[4, 1]
    bad = np.array([False, False, True, False, fault != 0, False])
    for found, before in zip(HeadSet(HEADS[:2]).probabilities(embeddings), sound, strict=True):
        assert np.isnan(found).all(axis=1).tolist() == bad.tolist()
        assert (found[~bad] == before[~bad]).all()


def test_half_precision_is_widened_exactly() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 4)
    finite = every[np.isfinite(every).all(axis=1)]
    found = single_precision(finite)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, finite.astype(np.float32))
    assert (np.signbit(found) == np.signbit(finite)).all()
    odd = every[~np.isfinite(every)]
    assert (np.abs(single_precision(odd[None])) >= 65536).all()


def test_layouts_of_memory_do_not_matter() -> None:
    embeddings = np.random.default_rng(2).normal(size=(40, D))
    for dtype in (np.float16, np.float32, np.dtype(">f2"), np.dtype(">f4")):
        rows = embeddings.astype(dtype)
        wanted = HEADS[1].probabilities(rows)
        for view in (np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
            np.testing.assert_array_equal(HEADS[1].probabilities(view), wanted)


def test_several_heads_are_each_as_by_itself() -> None:
    embeddings = np.random.default_rng(3).normal(size=(1000, D)).astype(np.float32)
    heads = [HEADS[0], HEADS[2], HEADS[3], HEADS[4]]
    for head, found in zip(heads, HeadSet(heads).probabilities(embeddings), strict=True):
        np.testing.assert_allclose(found, head.probabilities(embeddings), atol=1e-6)


def test_rows_do_not_depend_on_those_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = np.random.default_rng(4).normal(size=(500, D)).astype(np.float16)
    whole = HEADS[1].probabilities(embeddings)
    monkeypatch.setattr("vision.heads.BLOCK", 7 * D)
    np.testing.assert_allclose(HEADS[1].probabilities(embeddings), whole, atol=1e-6)
    assert HEADS[1].probabilities(embeddings[:0]).shape == (0, 3)


@given(arrays(np.float32, (4, 6), elements=st.integers(-3, 3).map(float)))
def test_margins_are_against_the_best_other(scores: np.ndarray) -> None:
    for k in (2, 3, 4):
        found = margins(scores[:k])
        for j in range(k):
            wanted = scores[j] - np.delete(scores[:k], j, axis=0).max(axis=0)
            np.testing.assert_array_equal(found[j], wanted)


def test_shares_of_nothing_are_not_known() -> None:
    found = shares(np.array([[0.2, 0.0], [0.6, 0.0]]))
    np.testing.assert_allclose(found[:, 0], [0.25, 0.75])
    assert np.isnan(found[:, 1]).all()


def test_an_exclusive_value_alone_is_a_question_of_its_own() -> None:
    head = made("kind", ("animal",), exclusive=True)
    found = head.probabilities(np.random.default_rng(5).normal(size=(50, D)))
    assert not head.compete and 0 < found.min() < 0.4 < 0.6 < found.max() < 1


class TestDecisions:
    def test_of_values_that_exclude_each_other(self) -> None:
        head = made("age", ("child", "adult", "old"), upper=0.6)
        probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.0, 0.4, 0.6]])
        found = head.decide(probabilities)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [[1, 0, 0], [np.nan] * 3, [0, 0, 1]])

    def test_two_yes_are_not_known(self) -> None:
        head = made(upper=0.4)
        np.testing.assert_array_equal(head.decide(np.array([[0.5, 0.5]])), [[np.nan] * 2])

    def test_of_separate_values(self) -> None:
        head = made("signs", ("glasses", "beard"), exclusive=False, lower=0.2, upper=0.8)
        probabilities = np.array([[0.9, 0.8], [0.2, 0.5], [0.21, 0.1], [np.nan, 0.0]])
        wanted = [[1, 1], [0, np.nan], [np.nan, 0], [np.nan, 0]]
        np.testing.assert_array_equal(head.decide(probabilities), wanted)

    def test_without_thresholds_nothing_is_decided(self) -> None:
        for head in (made(upper=None), person().model_copy(update={"thresholds": (Thresholds(),)})):
            everything = np.linspace(0, 1, 11)[:, None] * np.ones(len(head.values))
            assert np.isnan(head.decide(everything)).all()

    @settings(max_examples=50)
    @given(seed=st.integers(0, 1000), upper=st.floats(0.05, 1.0))
    def test_invariants(self, seed: int, upper: float) -> None:
        embeddings = np.random.default_rng(seed).normal(size=(20, D))
        embeddings[3] = np.nan
        for head in (made("age", "abc", upper=upper), made("age", "abc", exclusive=False)):
            found = head.decide(head.probabilities(embeddings))
            assert np.isin(found[~np.isnan(found)], (0, 1)).all()
            assert np.isnan(found[3]).all()
            if head.compete:
                known = ~np.isnan(found).any(axis=1)
                assert (found[known].sum(axis=1) == 1).all()
                assert np.isnan(found[~known]).all()


class TestFiles:
    @pytest.mark.parametrize("head", HEADS)
    def test_reads_back_the_same(self, head: Head, tmp_path: Path) -> None:
        path = tmp_path / "heads" / "head.json"
        head.save(path)
        assert load_head(path) == head
        first = path.read_bytes()
        head.save(path)
        assert path.read_bytes() == first and not list(tmp_path.rglob("*.partial"))

    def test_is_readable(self) -> None:
        text = made(dimension=768).to_json()
        lines = text.splitlines()
        assert len(lines) < 60 and lines.index(' "weights": [') > 20
        assert json.loads(text)["values"] == ["woman", "man"]

    def test_a_name_is_not_taken_for_numbers(self) -> None:
        head = made(model="[\n 1,  2]  e")
        assert Head.model_validate_json(head.to_json()) == head

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"{", "not a head"),
            (b"\xff", "cannot be read"),
            (b'{"version": 2}', "not a head"),
            (made().to_json().replace("gender", "person").encode(), "has the value `person`"),
            (made().to_json().replace('"model"', '"modle"').encode(), "not a head"),
        ],
    )
    def test_what_is_no_head(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "head.json"
        path.write_bytes(content)
        with pytest.raises(InputError, match=said) as error:
            load_head(path)
        assert str(path) in str(error.value)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.json: cannot be read"):
            load_head(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"values": ("woman", "woman")}, "stands twice"),
        ({"bias": (0.0,)}, "1 bias for 2 values"),
        ({"bias": (0.0, float("nan"))}, "finite"),
        ({"weights": ((0.0,) * 4,) * 2}, "weights of woman: 4 numbers, but dimension is 5"),
        ({"thresholds": ()}, "0 thresholds for 2 values"),
        ({"attribute": "person"}, "has the value `person`"),
    ],
)
def test_heads_that_do_not_fit_together(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        made(**changed)


class TestRefused:
    def test_other_dimensions(self) -> None:
        with pytest.raises(InputError, match=r"shape \(2, 4\).*ViT-B-32/openai.*5 numbers"):
            made().probabilities(np.ones((2, 4)))
        with pytest.raises(InputError, match=r"shape \(5,\)"):
            made().probabilities(np.ones(5))

    def test_other_models(self) -> None:
        with pytest.raises(InputError, match=r"SigLIP \(5 numbers\).*ViT-B-32/openai \(5\)"):
            HeadSet([made(), person(model="SigLIP")])
        with pytest.raises(InputError, match=r"\(4 numbers\).*\(5\)"):
            HeadSet([made(), person(dimension=4)])

    def test_two_heads_of_one_attribute(self) -> None:
        with pytest.raises(InputError, match="two heads of attribute 'gender'"):
            HeadSet([made(), person(), made(seed=1)])

    def test_no_heads(self) -> None:
        with pytest.raises(InputError, match="no heads"):
            HeadSet([])

    @pytest.mark.parametrize(
        ("head", "said"),
        [
            (made("sex"), "attribute 'sex', which catalogue 'c' lacks; it has gender, person"),
            (made(values=("woman", "girl")), "woman, girl, but catalogue 'c' exclusive values"),
            (made(values=("woman", "man", "x")), "woman, man, x"),
            (made(values=("woman",)), "values woman, but"),
            (made(exclusive=False), "separate values woman, man, but catalogue 'c' exclusive"),
        ],
    )
    def test_what_the_catalogue_lacks(self, head: Head, said: str, people: Catalogue) -> None:
        with pytest.raises(InputError, match=said):
            head.check(people)

    def test_what_it_has(self, people: Catalogue) -> None:
        made(values=("man", "woman")).check(people)
        person().check(people)

    def test_an_attribute_that_is_called_person(self, people: Catalogue) -> None:
        odd = people.model_copy(update={"sensitive": {"person": people.sensitive["gender"]}})
        with pytest.raises(InputError, match="rename the attribute"):
            person().check(odd)


@pytest.fixture
def people() -> Catalogue:
    values = {name: {"target": 0.5, "terms": [name]} for name in ("woman", "man")}
    gender = {"describes": "perceived", "values": values}
    return Catalogue.model_validate(
        {"name": "c", "purpose": "tests", "sensitive": {"gender": gender}}
    )

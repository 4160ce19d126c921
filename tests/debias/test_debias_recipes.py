"""Recipes: what they refuse, and that each method is fitted on what its class asks for."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

import debias
from debias import (
    AbleScore,
    CalibratedProjection,
    ClipClip,
    ClosedForm,
    FairCLIP,
    FairerCLIP,
    GroupMeanProjection,
    JointDebias,
    LinearProbe,
    OrthogonalProjection,
    group_means,
    learn_soft_prompts,
    load_method,
)
from debias.lessons import Lesson, Material
from debias.method import Method
from debias.recipes import (
    DIRECTED,
    METHODS,
    NEEDS,
    Recipe,
    _divided,
    fit_recipe,
    missing,
    needed,
    without_effect,
)
from m4.errors import InputError
from tests.planted_lessons import DIMENSIONS, lesson, material, people, set_of
from vision.embedder import Embedder, Preprocessing
from vision.model import ModelSettings, build_model, tokenizer

JOINT = {"aligner_width": 8, "remover_width": 8, "epochs": 2, "learning_rate": 1e-3}
PARAMETERS: dict[str, dict[str, Any]] = {
    "CalibratedProjection": {"lam": 10},
    "FairerCLIP": {"features": 40},
    "ClipClip": {"keep": 12},
    "JointDebias": JOINT,
}


def recipe(method: str, **more: Any) -> Recipe:
    given = {"method": method, "parameters": PARAMETERS.get(method, {}), **more}
    return Recipe(**given)


def fitted(given: Lesson, method: str, **more: Any) -> Any:
    return fit_recipe(recipe(method, **more), given, "toy/space").method


def check_same(found: Method, wanted: Method) -> None:
    """All that was learned is the same, and something was."""
    assert type(found) is type(wanted) and found.dimension_ == wanted.dimension_ == DIMENSIONS
    for name in found.LEARNED:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-12)
    assert found.get_params() == wanted.get_params() | {"space": "toy/space"}


class TestRecipe:
    @pytest.mark.parametrize(
        ("method", "more", "said"),
        [
            ("WRING", {}, "Input should be 'OrthogonalProjection', 'CalibratedProjection'"),
            ("Method", {}, "Input should be 'OrthogonalProjection'"),
            ("ClipClip", {"parameters": {"kep": 4}}, "ClipClip has no 'kep'; it has keep, seed"),
            ("ClosedForm", {"parameters": {"lam": 4}}, "ClosedForm has no 'lam'; it has none"),
            ("ClipClip", {"parameters": {"space": "x"}}, "ClipClip has no 'space'"),
            ("ClipClip", {"parameters": {"source": "x"}}, "ClipClip has no 'source'"),
            ("JointDebias", {"parameters": {"epoch_": 4}}, "JointDebias has no 'epoch_'"),
            (
                "ClipClip",
                {"parameters": {"keep": "many"}},
                "parameters of ClipClip: keep: Input sh",
            ),
            (
                "ClipClip",
                {"parameters": {"keep": 1.5}},
                "parameters of ClipClip: keep: Input shoul",
            ),
            (
                "ClipClip",
                {"parameters": {"keep": None}},
                "parameters of ClipClip: keep: Input shou",
            ),
            ("ClipClip", {"parameters": {"keep": 0}}, "keep is 0; give at least 1 dimension"),
            ("CalibratedProjection", {"parameters": {"lam": "-1"}}, "lam is -1.0; give a positive"),
            (
                "FairCLIP",
                {"parameters": {"solver": "newton"}},
                "solver: Input should be 'closed fo",
            ),
            ("ClipClip", {"directions": "prompts"}, "directions has no effect on ClipClip"),
            ("LinearProbe", {"supervised": True}, "supervised has no effect on LinearProbe"),
            ("FairCLIP", {"directions": "words"}, "directions"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, method: str, more: dict, said: str):
        with pytest.raises(ValidationError) as refused:
            Recipe(method=method, **more)
        assert said in str(refused.value)

    def test_parameters_are_of_the_classs_types_however_they_are_written(self):
        method = Recipe(method="CalibratedProjection", parameters={"lam": "1e-3"}).make("space")
        assert (method.lam, method.orthogonal, method.space) == (1e-3, True, "space")
        method = Recipe(method="FairerCLIP", parameters={"rounds": "3", "dimensions": None}).make(
            None
        )
        assert (method.rounds, method.dimensions, method.space) == (3, None, None)
        assert not method.dimension_

    def test_all_methods_have_a_recipe(self):
        found = {each for each in debias.__all__ if is_method(getattr(debias, each))}
        assert found == METHODS.keys() and set(DIRECTED) < METHODS.keys()
        for name in METHODS:
            assert type(Recipe(method=name).make(None)) is getattr(debias, name)


def is_method(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Method) and found is not Method


class TestFit:
    """Each method is the class, fitted on the arrays that it documents."""

    @pytest.fixture
    def given(self, tmp_path: Path) -> Lesson:
        genders = ["F", "M"]
        images = people()
        labels = [
            None if row in (3, 50) else value for row, value in enumerate(images.labels["gender"])
        ]
        jobs = [
            None if row in (7, 8, 9) else value for row, value in enumerate(images.labels["job"])
        ]
        assert set(genders) == set(labels) - {None}
        frame = pl.DataFrame({"gender": labels, "job": jobs})
        return lesson(tmp_path, replace(images, labels=frame))

    def arrays(self, given: Lesson, known: str) -> tuple[np.ndarray, list[str]]:
        """The images that are known or labelled and their groups, found without the lesson."""
        labels = given.images.labels
        keep = labels["gender"].is_not_null()
        if known == "labelled":
            keep &= labels["job"].is_not_null()
        rows = np.flatnonzero(keep.to_numpy())
        groups = [{"F": "female", "M": "male"}[labels["gender"][int(row)]] for row in rows]
        assert len(rows) == {"known": 118, "labelled": 115}[known]
        return given.images.embeddings[rows], groups

    def classes(self, given: Lesson) -> np.ndarray:
        frame = given.images.labels.drop_nulls()
        return np.array([["nurse", "doctor"].index(job) for job in frame["job"]])

    def test_orthogonal_projection(self, given: Lesson):
        prompts, _ = given.texts(given.spurious)
        for more in ({}, {"directions": "prompts"}):
            found = fitted(given, "OrthogonalProjection", **more)
            check_same(found, OrthogonalProjection().fit(spurious=prompts))
            assert found.source == "8 prompts of genders"
        images, groups = self.arrays(given, "known")
        female, male = group_means(images, groups)
        found = fitted(given, "OrthogonalProjection", directions="images")
        check_same(found, OrthogonalProjection().fit(spurious=(male - female)[None]))
        assert found.source == "means of 118 images of people by gender"

    @pytest.mark.parametrize("orthogonal", [True, False, "true", "false"])
    def test_calibrated_projection(self, given: Lesson, orthogonal: bool | str):
        parameters = {"lam": "10", "orthogonal": orthogonal}
        found = fitted(given, "CalibratedProjection", parameters=parameters)
        away = orthogonal in (True, "true")
        wanted = CalibratedProjection(lam=10, orthogonal=away).fit(
            candidates=given.candidates.embed(given.encode_texts),
            pairs=[(2, 3), (1, 0)],
            spurious=given.texts(given.spurious)[0] if away else None,
        )
        check_same(found, wanted)
        said = "2 pairs of pairs"
        assert found.source == (f"8 prompts of genders, {said}" if away else said)

    @pytest.mark.parametrize(
        ("method", "kind"),
        [("GroupMeanProjection", GroupMeanProjection), ("ClosedForm", ClosedForm)],
    )
    def test_by_directions(self, given: Lesson, method: str, kind: type[Any]):
        images, groups = self.arrays(given, "known")
        found = fitted(given, method)
        check_same(found, kind().fit(directions=group_means(images, groups)))
        assert found.source == "means of 118 images of people by gender"
        check_same(fitted(given, method, directions="images"), found)
        found = fitted(given, method, directions="prompts")
        check_same(found, kind().fit(directions=given.group_directions()))
        assert found.source == "2 groups of prompts genders"

    def test_clip_clip(self, given: Lesson):
        images, groups = self.arrays(given, "known")
        found = fitted(given, "ClipClip")
        check_same(found, ClipClip(keep=12).fit(images=images, attributes=groups))
        assert found.source == "118 images of people by gender"

    @pytest.mark.parametrize("alpha", [1, 0, "0"])
    def test_fair_clip(self, given: Lesson, alpha: float | str):
        images, groups = self.arrays(given, "known")
        found = fitted(given, "FairCLIP", parameters={"alpha": alpha})
        targets = given.class_prompts.embed(given.encode_texts) if alpha == 1 else None
        wanted = FairCLIP(alpha=float(alpha))
        check_same(found, wanted.fit(images=images, attributes=groups, target_texts=targets))
        said = "118 images of people by gender"
        assert found.source == (f"{said}, classes jobs" if alpha == 1 else said)

    def test_fairer_clip(self, given: Lesson):
        texts, positions = given.texts(given.class_prompts)
        prompts = {"texts": texts, "text_labels": positions}
        images, groups = self.arrays(given, "labelled")
        wanted = FairerCLIP(features=40).fit(
            images=images, attributes=groups, labels=self.classes(given), **prompts
        )
        for more in ({}, {"supervised": True}):
            found = fitted(given, "FairerCLIP", **more)
            check_same(found, wanted)
            assert found.source == "115 images of people by gender, labels of jobs"
        images, groups = self.arrays(given, "known")
        found = fitted(given, "FairerCLIP", supervised=False)
        check_same(found, FairerCLIP(features=40).fit(images=images, attributes=groups, **prompts))
        assert found.source == "118 images of people by gender, predictions of jobs"

    @pytest.mark.parametrize("reweighted", [True, False, "true", "false"])
    def test_linear_probe(self, given: Lesson, reweighted: bool | str):
        images, groups = self.arrays(given, "labelled")
        texts, positions = given.texts(given.class_prompts)
        by_cell = reweighted in (True, "true")
        wanted = LinearProbe(reweighted=by_cell).fit(
            images=images,
            labels=self.classes(given),
            texts=texts,
            text_labels=positions,
            attributes=groups if by_cell else None,
        )
        found = fitted(given, "LinearProbe", parameters={"reweighted": reweighted})
        check_same(found, wanted)
        assert found.source == "115 images of people by gender, labels of jobs"

    def test_joint_debias_learns_from_four_of_five_and_is_scored_on_the_fifth(self, given: Lesson):
        images, groups = self.arrays(given, "labelled")
        classes = self.classes(given)
        place = {}
        for row in np.lexsort((classes, groups)):  # by group, and in it by class
            place[row] = sum(groups[other] == groups[row] for other in place)
        last = np.array([place[row] % 5 == 4 for row in range(len(groups))])
        learned = given.labelled.chosen(np.flatnonzero(~last))
        texts, others = given.captions(learned)
        score = AbleScore(
            images=images[last],
            groups=np.array(groups)[last],
            queries=given.texts(given.class_prompts)[0],
            k=int(last.sum()) // 10,
            class_images=images[last],
            labels=classes[last],
            class_texts=given.class_prompts.embed(given.encode_texts),
        )
        wanted = JointDebias(**JOINT).fit(
            images=images[~last], texts=texts, counterfactuals=others, score=score
        )
        found = fitted(given, "JointDebias")
        check_same(found, wanted)
        assert found.scores_ == wanted.scores_ and len(found.scores_) == 3
        learned, kept = (~last).sum(), last.sum()
        assert found.source == (
            f"{learned} images of people by gender, their captions; {kept} held out for ABLE, "
            f"which chose epoch {wanted.epoch_} of 2"
        )

    @pytest.mark.parametrize("method", METHODS)
    def test_it_comes_back_from_its_folder(self, given: Lesson, method: str, tmp_path: Path):
        made = fit_recipe(recipe(method), given, "toy/space")
        made.method.save(tmp_path / "method")
        found = load_method(tmp_path / "method", space="toy/space")
        check_same(found, made.method)
        assert made.seconds > 0 and found.source
        rows = given.known.embeddings
        np.testing.assert_array_equal(
            found.transform_images(rows), made.method.transform_images(rows)
        )

    def test_a_space_without_a_name(self, given: Lesson):
        assert fit_recipe(recipe("ClosedForm"), given).method.space is None


WAYS: list[tuple[str, dict[str, Any], str]] = [
    ("OrthogonalProjection", {}, "spurious"),
    ("OrthogonalProjection", {"directions": "prompts"}, "spurious"),
    ("OrthogonalProjection", {"directions": "images"}, "images attribute"),
    ("CalibratedProjection", {}, "spurious candidates"),
    ("CalibratedProjection", {"parameters": {"orthogonal": "false"}}, "candidates"),
    ("FairCLIP", {}, "images attribute classes"),
    ("FairCLIP", {"directions": "images"}, "images attribute classes"),
    ("FairCLIP", {"parameters": {"alpha": "0"}}, "images attribute"),
    ("FairCLIP", {"directions": "prompts"}, "images attribute classes spurious"),
    ("JointDebias", {}, "images attribute label classes caption"),
    ("FairerCLIP", {}, "images attribute label classes"),
    ("FairerCLIP", {"supervised": True}, "images attribute label classes"),
    ("FairerCLIP", {"supervised": False}, "images attribute classes"),
    ("ClipClip", {}, "images attribute"),
    ("GroupMeanProjection", {}, "images attribute"),
    ("GroupMeanProjection", {"directions": "images"}, "images attribute"),
    ("GroupMeanProjection", {"directions": "prompts"}, "spurious"),
    ("ClosedForm", {}, "images attribute"),
    ("ClosedForm", {"directions": "images"}, "images attribute"),
    ("ClosedForm", {"directions": "prompts"}, "spurious"),
    ("LinearProbe", {}, "images attribute label classes"),
    ("LinearProbe", {"parameters": {"reweighted": True}}, "images attribute label classes"),
]
ALL = ("images", "attribute", "label", "classes", "spurious", "candidates", "caption")


class TestParts:
    """What a recipe says that it reads is what its method is fitted on."""

    def test_every_method_says_what_it_reads(self):
        assert NEEDS.keys() == METHODS.keys() == {method for method, _, _ in WAYS}

    def only(self, folder: Path, parts: list[str]) -> Lesson:
        """A lesson with these parts; the tower is there for those that learn prompts."""
        named = set(parts) | ({"groups"} if "attribute" in parts else set())
        lacking = {"groups", *ALL[1:]} - named
        found = lesson(folder, **dict.fromkeys(lacking), embedder=embedder())
        return found if "images" in parts else replace(found, images=None)

    @pytest.mark.parametrize(("method", "more", "reads"), WAYS)
    def test_it_is_fitted_on_what_it_needs_and_on_nothing_less(
        self, tmp_path: Path, method: str, more: dict, reads: str
    ):
        given, parts = recipe(method, **more), reads.split()
        assert needed(given) == sorted(parts, key=ALL.index)
        whole = self.only(tmp_path, parts)
        assert fit_recipe(given, whole).method.dimension_ == DIMENSIONS
        for part in parts:
            rest = [each for each in parts if each != part]
            if part == "attribute":  # a caption is for an attribute
                rest = [each for each in rest if each != "caption"]
            with pytest.raises(InputError, match=r"^\w+ (is|are) missing"):
                fit_recipe(given, self.only(tmp_path, rest))

    @pytest.mark.parametrize(("method", "more", "reads"), WAYS)
    def test_what_is_missing_and_what_has_no_effect(
        self, tmp_path: Path, method: str, more: dict, reads: str
    ):
        given, parts = recipe(method, **more), reads.split()
        everything, nothing = material(tmp_path), Material()
        assert missing(given, everything) == []
        assert without_effect(given, everything) == [each for each in ALL if each not in parts]
        assert missing(given, nothing, with_images=False) == needed(given)
        assert missing(given, nothing) == [each for each in needed(given) if each != "images"]
        assert without_effect(given, nothing, with_images=False) == []
        assert without_effect(given, nothing) == ([] if "images" in parts else ["images"])


LACKING: list[tuple[str, dict[str, Any], str]] = [
    ("OrthogonalProjection", {}, "spurious"),
    ("CalibratedProjection", {}, "spurious"),
    ("CalibratedProjection", {}, "candidates"),
    ("CalibratedProjection", {"parameters": {"orthogonal": False}}, "candidates"),
    ("GroupMeanProjection", {"directions": "prompts"}, "spurious"),
    ("ClosedForm", {"directions": "prompts"}, "spurious"),
    ("FairCLIP", {}, "classes"),
    ("FairerCLIP", {}, "classes"),
    ("FairerCLIP", {}, "label"),
    ("FairerCLIP", {"supervised": False}, "classes"),
    ("LinearProbe", {}, "classes"),
    ("LinearProbe", {}, "label"),
    ("JointDebias", {}, "classes"),
    ("JointDebias", {}, "label"),
    ("JointDebias", {}, "caption"),
]
SPARES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("OrthogonalProjection", {}, ("classes", "label", "candidates", "caption")),
    ("OrthogonalProjection", {"directions": "images"}, ("spurious", "classes", "label")),
    ("CalibratedProjection", {"parameters": {"orthogonal": False}}, ("spurious", "classes")),
    ("ClipClip", {}, ("spurious", "classes", "label", "candidates", "caption")),
    ("FairCLIP", {"parameters": {"alpha": 0}}, ("spurious", "classes", "label", "caption")),
    ("FairerCLIP", {"supervised": False}, ("spurious", "label", "candidates", "caption")),
    ("JointDebias", {}, ("spurious", "candidates")),
]


class TestMaterialOfAMethod:
    @pytest.mark.parametrize(("method", "more", "lacking"), LACKING)
    def test_what_it_needs_is_named(self, tmp_path: Path, method: str, more: dict, lacking: str):
        given = lesson(tmp_path, **{lacking: None})
        with pytest.raises(InputError, match=f"^{lacking} is missing; name it"):
            fitted(given, method, **more)

    @pytest.mark.parametrize(("method", "more", "spared"), SPARES)
    def test_nothing_else_is_asked_for(
        self, tmp_path: Path, method: str, more: dict, spared: tuple[str, ...]
    ):
        given = lesson(tmp_path, **dict.fromkeys(spared))
        assert fitted(given, method, **more).dimension_ == DIMENSIONS

    @pytest.mark.parametrize(
        "method", ["FairCLIP", "JointDebias", "FairerCLIP", "ClipClip", "GroupMeanProjection"]
    )
    def test_one_group_is_none(self, tmp_path: Path, method: str):
        images = people()
        one = images.where({"gender": "F"})
        with pytest.raises(InputError, match="female"):
            fitted(lesson(tmp_path, one), method)


class TestHeldOut:
    """What JointDebias is scored on."""

    def images(self, cells: dict[tuple[str | None, str | None], int], order: Callable) -> Any:
        rows = [cell for cell, count in cells.items() for _ in range(count)]
        rows = [rows[place] for place in order(len(rows))]
        frame = pl.DataFrame(
            {"gender": [row[0] for row in rows], "job": [row[1] for row in rows]},
            schema={"gender": pl.String, "job": pl.String},
        )
        noise = np.random.default_rng(1).normal(size=(len(rows), DIMENSIONS))
        return set_of(noise, frame)

    @pytest.mark.parametrize(
        "order",
        [range, lambda n: range(n)[::-1], lambda n: np.random.default_rng(2).permutation(n)],
    )
    def test_groups_and_classes_have_their_share_in_any_order(self, tmp_path: Path, order: Any):
        cells = {("F", "nurse"): 40, ("F", "doctor"): 10, ("M", "nurse"): 4, ("M", "doctor"): 21}
        given = lesson(tmp_path, self.images(cells, order))
        learned, kept = _divided(given, given.labelled)
        assert sorted([*learned.keys, *kept.keys]) == sorted(given.images.keys)
        found = {
            cell: len(kept.where({"gender": cell[0], "job": cell[1]}))
            for cell in cells
            if cell != ("M", "nurse")
        }
        assert found[("F", "nurse")] == 8 and found[("F", "doctor")] == 2
        assert found[("M", "doctor")] in (4, 5) and len(kept) == 15

    def test_a_period_in_the_order_of_images_does_no_harm(self, tmp_path: Path):
        """Every fifth image is a man here, and no other."""
        images = people(50, job=["nurse", "doctor"] * 25)
        genders = ["M" if row % 5 == 4 else "F" for row in range(50)]
        images = replace(images, labels=images.labels.with_columns(gender=pl.Series(genders)))
        found = fitted(lesson(tmp_path, images), "JointDebias")
        assert found.source.startswith("40 images of people by gender, their captions; 10 held out")

    def test_a_class_that_nobody_is_in_is_no_obstacle(self, tmp_path: Path):
        images = self.images({("F", "nurse"): 20, ("M", "nurse"): 20}, range)
        assert len(fitted(lesson(tmp_path, images), "JointDebias").scores_) == 3

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            (
                {("F", "nurse"): 30, ("M", "doctor"): 4},
                "people: 4 images with a class are in group 'ma",
            ),
            (
                {("F", "nurse"): 30, ("M", None): 30},
                "people: 0 images with a class are in group 'male",
            ),
            (
                {("F", "nurse"): 3, ("M", "doctor"): 30},
                "one in 5 is held out; give at least 5 of each",
            ),
        ],
    )
    def test_a_group_that_is_too_small_is_named(self, tmp_path: Path, cells: dict, said: str):
        with pytest.raises(InputError, match=said):
            fitted(lesson(tmp_path, self.images(cells, range)), "JointDebias")


SIZES = ModelSettings(
    embed_dim=DIMENSIONS,
    image_size=32,
    patch_size=16,
    image_width=24,
    image_layers=1,
    image_head_width=24,
    context_length=16,
    text_width=32,
    text_layers=1,
    text_heads=2,
)


@cache
def embedder() -> Embedder:
    """A tower with random weights."""
    torch.manual_seed(0)
    model = build_model(SIZES, "clip").eval()
    return Embedder(model, tokenizer(SIZES), Preprocessing.of(model), "small tower")


class TestSoftPrompts:
    def test_fair_clip_with_prototypes_of_prompts(self, tmp_path: Path):
        tower = embedder()
        given = replace(lesson(tmp_path, embedder=tower), encode_texts=tower.encode_texts)
        found = fitted(given, "FairCLIP", directions="prompts", parameters={"temperature": "0.2"})
        soft = learn_soft_prompts(
            tower,
            given.known.embeddings,
            given.attributes(given.known),
            {"female": "a woman", "male": "a man"},
            temperature=0.2,
        )
        wanted = FairCLIP(temperature=0.2).fit(
            images=given.known.embeddings,
            attribute_texts=soft.prototypes,
            target_texts=given.class_prompts.embed(tower.encode_texts),
        )
        check_same(found, wanted)
        assert found.source.startswith(
            "120 images of people by gender, classes jobs, soft prompts before a woman, a man"
        )
        assert found.source.endswith(" (stopped before they converged)") != soft.converged

    def test_embeddings_in_place_of_the_model_have_no_tower(self, tmp_path: Path):
        with pytest.raises(
            InputError, match="directions: prompts are learned through a text tower"
        ):
            fitted(lesson(tmp_path), "FairCLIP", directions="prompts")

    def test_they_need_words(self, tmp_path: Path):
        given = lesson(tmp_path, embedder=embedder(), spurious=None)
        with pytest.raises(InputError, match="spurious is missing"):
            fitted(given, "FairCLIP", directions="prompts")

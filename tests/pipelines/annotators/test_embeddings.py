"""Marks from embeddings: columns, people, what is set aside, and the whole stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.annotators.embeddings import (
    MISSING,
    NOT_FINITE,
    ZERO,
    EmbeddingAnnotator,
    EmbeddingTables,
    marks_of_heads,
)
from pipelines.annotators.marks import Annotator, Batch
from pipelines.settings import AnnotateSettings
from pipelines.shards import Sample, SampleSpan
from pipelines.stages import annotate
from pipelines.tables import committed, read_all
from vision.calibrated import Platt
from vision.heads import Head, HeadSet
from vision.thresholds import Thresholds

D = 6  # axes: woman, man, child, person, two that say nothing
CLEAR = Platt(slope=20.0, intercept=0.0)


def head(attribute: str, *values: str, axes: tuple[int, ...], **more: Any) -> Head:
    """A head whose values are axes of the embedding."""
    exclusive = attribute == "gender"
    content = {
        "attribute": attribute,
        "values": values,
        "exclusive": exclusive,
        "model": "m",
        "dimension": D,
        "bias": (0.0 if exclusive else -0.3,) * len(values),
        "calibrations": (CLEAR,) * len(values),
        "thresholds": (Thresholds(lower=None if exclusive else 0.1, upper=0.9),) * len(values),
        "weights": tuple(tuple(float(i == axis) for i in range(D)) for axis in axes),
    }
    return Head.model_validate({**content, **more})


GENDER = head("gender", "man", "woman", axes=(1, 0))  # not in the catalogue's order
AGE = head("age", "child", axes=(2,))
PERSON = head("person", "person", axes=(3,))


def embedding(*axes: int) -> np.ndarray:
    return np.isin(np.arange(D), axes).astype(np.float32)


def samples(n: int) -> list[Sample]:
    return [Sample(f"{i:032x}", f"{i:05d}", SampleSpan(0, 0), "", {}) for i in range(n)]


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., EmbeddingTables]:
    def write(array: np.ndarray, stem: str = "00000", first: int = 0) -> EmbeddingTables:
        np.save(tmp_path / f"{stem}.npy", array)
        uids = [f"{first + i:032x}" for i in range(len(array))]
        pq.write_table(pa.table({"uid": uids}), tmp_path / f"{stem}.parquet")
        return EmbeddingTables(str(tmp_path))

    return write


def test_values_go_to_the_columns_of_the_catalogue(catalogue: Catalogue) -> None:
    rows = np.stack([embedding(0, 3), embedding(1, 2, 3), embedding(4, 3)])
    marks = marks_of_heads(rows, HeadSet([AGE, GENDER, PERSON]), catalogue, True)
    assert catalogue.value_names == ("gender.woman", "gender.man", "age.child")
    wanted = [[1, 0, 0], [0, 1, 1], [np.nan, np.nan, 0]]
    np.testing.assert_array_equal(marks.values, wanted)
    np.testing.assert_array_equal(marks.person, [1, 1, 1])
    assert marks.values.dtype == marks.person.dtype == np.float32
    assert not marks.unusable and not marks.notes and not len(marks.label_rows)


def test_probabilities_are_those_of_the_heads(catalogue: Catalogue) -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(50, D))) + 0.5 * embedding(3)
    marks = marks_of_heads(rows, HeadSet([AGE, GENDER, PERSON]), catalogue, False)
    shown = ~np.isnan(marks.values[:, 0])
    assert 20 < shown.sum() < 50
    np.testing.assert_array_equal(marks.values[shown, :2], GENDER.probabilities(rows)[shown, ::-1])
    np.testing.assert_array_equal(marks.values[shown, 2:], AGE.probabilities(rows)[shown])
    np.testing.assert_array_equal(marks.person, PERSON.probabilities(rows)[:, 0])
    np.testing.assert_allclose(marks.values[shown, :2].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("decide", [True, False])
def test_nobody_has_no_attributes(catalogue: Catalogue, decide: bool) -> None:
    """Not known whether there is a person leaves them; a certain "no" takes them away."""
    unsure = embedding(0) + 0.35 * embedding(3)
    rows = np.stack([embedding(0, 3), embedding(0), unsure])
    marks = marks_of_heads(rows, HeadSet([GENDER, PERSON]), catalogue, decide)
    assert np.isnan(marks.values[:, 0]).tolist() == [False, True, False]
    assert marks.person[1] < 0.01
    assert np.isnan(marks.person[2]) if decide else 0.1 < marks.person[2] < 0.9
    without = marks_of_heads(rows, HeadSet([GENDER]), catalogue, decide)
    assert not np.isnan(without.values[:, :2]).any() and np.isnan(without.person).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_broken_rows_are_set_aside_and_missing_ones_counted(
    catalogue: Catalogue, tables: Callable[..., EmbeddingTables], dtype: type
) -> None:
    array = np.stack([embedding(0, 3)] * 5).astype(dtype)
    array[1, 4], array[2, 4], array[3] = np.nan, np.inf, 0
    annotator = EmbeddingAnnotator(catalogue, [GENDER, PERSON], tables(array), True)
    annotator.begin("00000")
    marks = annotator.annotate(Batch(samples(7)))
    assert dict(marks.unusable) == {1: NOT_FINITE, 2: NOT_FINITE, 3: ZERO}
    assert dict(marks.notes) == {MISSING: 2}
    known = [True, False, False, False, True, False, False]
    assert (~np.isnan(marks.values[:, 0])).tolist() == known
    assert (~np.isnan(marks.person)).tolist() == known


def test_shards_one_after_the_other(
    catalogue: Catalogue, tables: Callable[..., EmbeddingTables]
) -> None:
    tables(np.stack([embedding(0, 3)] * 2), "00000")
    given = tables(np.stack([embedding(1, 3)] * 2), "00001", first=2)
    annotator: Annotator = EmbeddingAnnotator(catalogue, [GENDER], given, True)
    assert (annotator.name, annotator.size) == ("embeddings", 0)
    batch = Batch(samples(4))
    for stem, woman in (("00000", [1, 1, np.nan, np.nan]), ("00001", [np.nan, np.nan, 0, 0])):
        annotator.begin(stem)
        np.testing.assert_array_equal(annotator.annotate(batch).values[:, 0], woman)
    with pytest.raises(InputError, match="00002: no embeddings of this shard"):
        annotator.begin("00002")
    with pytest.raises(RuntimeError, match="begin"):  # not the table of the shard before
        annotator.annotate(batch)


def test_batches_do_not_matter(
    catalogue: Catalogue, tables: Callable[..., EmbeddingTables]
) -> None:
    array = np.random.default_rng(0).normal(size=(300, D)).astype(np.float16)
    annotator = EmbeddingAnnotator(catalogue, [GENDER, AGE, PERSON], tables(array), False)
    annotator.begin("00000")
    everyone = samples(300)
    whole = annotator.annotate(Batch(everyone))
    parts = [annotator.annotate(Batch(everyone[i : i + 7])) for i in range(0, 300, 7)]
    found = np.concatenate([part.values for part in parts])
    np.testing.assert_allclose(found, whole.values, atol=1e-5)
    shuffled = np.random.default_rng(1).permutation(300)
    mixed = annotator.annotate(Batch([everyone[i] for i in shuffled]))
    np.testing.assert_allclose(mixed.values, whole.values[shuffled], atol=1e-5)
    assert len(annotator.annotate(Batch([])).values) == 0


class TestRefused:
    def test_heads_that_do_not_fit_the_catalogue(self, catalogue: Catalogue) -> None:
        tables = EmbeddingTables("nowhere")
        for heads, said in (
            ([head("sex", "x", axes=(0,))], "attribute 'sex'"),
            ([head("gender", "woman", "girl", axes=(0, 1))], "woman, girl"),
            ([GENDER, GENDER], "two heads of attribute 'gender'"),
            ([GENDER, head("age", "child", axes=(2,), model="other")], "one model"),
            ([], "no heads"),
        ):
            with pytest.raises(InputError, match=said):
                EmbeddingAnnotator(catalogue, heads, tables, True)

    def test_embeddings_of_another_length(
        self, catalogue: Catalogue, tables: Callable[..., EmbeddingTables]
    ) -> None:
        annotator = EmbeddingAnnotator(catalogue, [GENDER], tables(np.ones((3, 4))), True)
        said = r"00000\.npy: embeddings of 4 numbers, but the heads are for m, which has 6"
        with pytest.raises(InputError, match=said):
            annotator.begin("00000")


class TestStage:
    """Through annotate: shards, tables, heads, and a shard whose table is damaged."""

    @pytest.fixture
    def given(
        self,
        tmp_path: Path,
        people: Callable[[int], list],
        write_shards: Callable[..., list],
        catalogue_path: Path,
    ) -> dict[str, Any]:
        shards = write_shards(tmp_path / "shards", people(40), 2)
        generator = np.random.default_rng(0)
        folder = tmp_path / "embeddings"
        folder.mkdir()
        pairs = people(40)
        for part, shard in enumerate(shards):
            uids = [json.loads(dict(each)[_json(each)])["uid"] for each in pairs[part::2]]
            rows = [embedding(generator.integers(2), 3) for _ in uids]
            np.savez(folder / f"{shard.stem}.npz", l14_img=np.array(rows, dtype=np.float16))
            pq.write_table(pa.table({"uid": uids}), folder / f"{shard.stem}.parquet")
        for each in (GENDER, PERSON):
            each.save(tmp_path / "heads" / f"{each.attribute}.json")
        return {
            "shards": (str(tmp_path / "shards"),),
            "catalogue": str(catalogue_path),
            "run": str(tmp_path / "run"),
            "annotators": ("embeddings",),
            "embeddings": str(folder),
            "embedding_key": "l14_img",
            "heads": tuple(str(path) for path in sorted((tmp_path / "heads").glob("*.json"))),
        }

    def test_every_sample_is_marked(self, given: dict[str, Any], tmp_path: Path) -> None:
        annotate(AnnotateSettings(**given))
        folder = str(tmp_path / "run" / "annotations")
        table = read_all(folder)
        assert len(table) == 40 and set(table["gender:source"]) == {"embeddings"}
        assert set(table["gender.woman"]) == {0.0, 1.0} and set(table["person"]) == {1.0}
        assert table["age.child"].null_count() == 40
        assert not any(commit.failures for _, commit in committed(folder))

    def test_a_damaged_table_sets_its_shard_aside(
        self, given: dict[str, Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "embeddings" / "00001.npz"
        content = path.read_bytes()
        path.write_bytes(content[:100])
        folder = str(tmp_path / "run" / "annotations")
        annotate(AnnotateSettings(**given, max_failures=1.0))
        commits = dict(committed(folder))
        assert commits["00000"].rows == 20 and commits["00001"].damaged
        assert "00001.npz: cannot be read" in next(iter(commits["00001"].failures))
        path.write_bytes(content)  # and once it is mended, the stage goes on with it
        annotate(AnnotateSettings(**given, max_failures=1.0))
        assert dict(committed(folder))["00001"].rows == 20


def _json(members: list) -> str:
    return next(name for name, _ in members if name.endswith(".json"))

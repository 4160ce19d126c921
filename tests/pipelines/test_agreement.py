"""Annotations against known truth, equal to counting by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.agreement import Agreement, agreement, read_agreement, write_agreement
from pipelines.tables import Commit, annotation_schema, write_table

Mark = tuple[float | None, tuple[int, ...]]  # probability of a woman, labels


def annotations(folder: Path, catalogue: Catalogue, marks: list[Mark], first: int = 0) -> str:
    """Annotations of samples with these marks, in two shards."""
    rows: list[dict[str, Any]] = [
        {
            "uid": f"{i + first:032x}",
            "key": str(i),
            "offset": 0,
            "length": 512,
            "gender.woman": woman,
            "gender.man": None if woman is None else 1.0 - woman,
            "labels": list(labels),
            "label_sources": ["test"] * len(labels),
            "utility": 1.0,
        }
        for i, (woman, labels) in enumerate(marks)
    ]
    for stem, part in (("a", rows[::2]), ("b", rows[1::2])):
        table = pa.Table.from_pylist(part, schema=annotation_schema(catalogue))
        commit = Commit(shard=stem, size=1, modified=0.0, settings="", rows=len(part))
        write_table(str(folder), stem, table, commit)
    return str(folder)


def test_a_value_is_covered_right_and_found(tmp_path: Path, catalogue: Catalogue) -> None:
    true: list[Mark] = [(1.0, ()), (1.0, ()), (1.0, ()), (0.0, ()), (0.0, ()), (None, ())]
    found: list[Mark] = [(1.0, ()), (0.0, ()), (None, ()), (0.5, ()), (0.0, ()), (1.0, ())]
    table = agreement(
        annotations(tmp_path / "found", catalogue, found),
        annotations(tmp_path / "true", catalogue, true),
        catalogue,
    )
    # Five truths, four of them marked; two marked as women, one of them is; two of the women that
    # are marked, one found; one mark without a truth.
    assert table["gender.woman"] == Agreement(
        truth=5, coverage=0.8, precision=0.5, recall=0.5, unfounded=1
    )
    assert table["age.child"] == Agreement(
        truth=0, coverage=None, precision=None, recall=None, unfounded=0
    )
    assert list(table) == [*catalogue.value_names, *catalogue.label_names]


marks = st.tuples(
    st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
    st.sets(st.integers(0, 3), max_size=2).map(lambda ids: tuple(sorted(ids))),
)


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pairs=st.lists(st.tuples(marks, marks), min_size=1, max_size=12))
def test_agreement_equals_counting_by_hand(
    tmp_path: Path, catalogue: Catalogue, pairs: list[tuple[Mark, Mark]]
) -> None:
    table = agreement(
        annotations(tmp_path / "found", catalogue, [found for found, _ in pairs]),
        annotations(tmp_path / "true", catalogue, [true for _, true in pairs]),
        catalogue,
    )

    def share(part: list[bool]) -> float | None:
        return sum(part) / len(part) if part else None

    both = [(f, t) for (f, _), (t, _) in pairs if f is not None and t is not None]
    assert table["gender.woman"] == Agreement(
        truth=sum(t is not None for _, (t, _) in pairs),
        coverage=share([f is not None for (f, _), (t, _) in pairs if t is not None]),
        precision=share([t >= 0.5 for f, t in both if f >= 0.5]),
        recall=share([f >= 0.5 for f, t in both if t >= 0.5]),
        unfounded=sum(f is not None and t is None for (f, _), (t, _) in pairs),
    )
    for r, label in enumerate(catalogue.label_names):
        assert table[label] == Agreement(
            truth=sum(r in true for _, (_, true) in pairs),
            coverage=1.0,
            precision=share([r in true for (_, found), (_, true) in pairs if r in found]),
            recall=share([r in found for (_, found), (_, true) in pairs if r in true]),
            unfounded=0,
        )


def test_other_samples_are_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    some: list[Mark] = [(1.0, ()), (0.0, ())]
    found = annotations(tmp_path / "found", catalogue, some)
    for name, true in (
        ("fewer", annotations(tmp_path / "fewer", catalogue, some[:1])),
        ("other", annotations(tmp_path / "other", catalogue, some, first=7)),
    ):
        with pytest.raises(InputError, match=rf"{name} annotate different samples \(2 and [12]\)"):
            agreement(found, true, catalogue)


def test_a_comparison_is_read_back(tmp_path: Path) -> None:
    table = {
        "gender.woman": Agreement(truth=3, coverage=1 / 3, precision=None, recall=0.1, unfounded=2)
    }
    write_agreement(tmp_path / "agreement.json", table)
    assert read_agreement(tmp_path / "agreement.json") == table
    assert read_agreement(tmp_path / "none.json") == {}


@pytest.mark.parametrize("content", ["", "[]", '{"gender.woman": 3}', '{"a": {"truth": 1}}'])
def test_what_is_no_comparison_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "agreement.json").write_text(content)
    with pytest.raises(InputError, match=r"agreement\.json: not a table of agreement"):
        read_agreement(tmp_path / "agreement.json")

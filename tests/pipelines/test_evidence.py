"""What marks rest on: counts that add up over shards."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.annotators.marks import Marks
from pipelines.evidence import (
    Evidence,
    Known,
    add_up,
    evidence_of,
    read_evidence,
    write_evidence,
)
from pipelines.fusion import fuse

NAN = float("nan")
NURSE, CHEF, OFFICER, KITCHEN = range(4)  # labels of the catalogue of conftest.py


def marks(
    values: list[list[float]], labels: list[tuple[int, int]] | None = None, **more: object
) -> Marks:
    pairs = np.array(labels or [], dtype=np.int64).reshape(-1, 2)
    given = np.array(values, dtype=np.float32).reshape(-1, 3)
    person = np.array(more.pop("person", [NAN] * len(given)), dtype=np.float32)
    return Marks(given, person, pairs[:, 0], pairs[:, 1], **more)  # type: ignore[arg-type]


CAPTIONS = marks(
    [[1, 0, NAN], [0.5, 0.5, NAN], [NAN] * 3, [0, 1, 1], [NAN] * 3],
    [(0, NURSE), (0, KITCHEN), (1, NURSE), (2, NURSE), (4, CHEF)],
    person=[1, 1, NAN, 1, NAN],
    languages=["en", "en", None, "de", "en"],
    found=Counter(
        {("gender.woman", "woman"): 1, ("gender.woman", "girl"): 1, ("nurse", "nurse"): 3}
    ),
)
PIXELS = marks(
    [[1, 0, 0], [0, 1, NAN], [NAN] * 3, [1, 0, 1], [NAN] * 3],
    person=[1, 1, 0, 1, NAN],
    unusable={4: "embedding is not finite"},
    notes=Counter({"embeddings: no row": 1}),
)


@pytest.fixture
def evidence(catalogue: Catalogue) -> Evidence:
    said = [CAPTIONS, PIXELS]
    return evidence_of(fuse(said, catalogue, "first"), said, ["captions", "pixels"], catalogue)


def test_what_is_known_is_counted_by_label(evidence: Evidence) -> None:
    assert evidence.known == {
        "nurse": Known(samples=3, person=2, nobody=1, attributes={"gender": 2, "age": 1}),
        "kitchen": Known(samples=1, person=1, nobody=0, attributes={"gender": 1, "age": 1}),
        "": Known(samples=4, person=3, nobody=1, attributes={"gender": 3, "age": 2}),
    }


def test_languages_terms_and_notes_are_counted(evidence: Evidence) -> None:
    assert evidence.languages == {"de": 1, "en": 2, "not known": 1}
    assert evidence.terms == {"gender.woman": {"girl": 1, "woman": 1}, "nurse": {"nurse": 3}}
    assert evidence.notes == {"embeddings: no row": 1}


def test_opinions_are_a_matrix_of_what_either_says(evidence: Evidence) -> None:
    pair = "captions x pixels"
    assert evidence.opinions["gender"][pair] == {
        "woman": {"woman": 1},
        "several": {"man": 1},
        "not known": {"not known": 1},
        "man": {"woman": 1},
    }
    assert evidence.opinions["age.child"][pair] == {
        "not known": {"no": 1, "not known": 2},
        "yes": {"yes": 1},
    }
    assert evidence.opinions["person"][pair] == {"yes": {"yes": 3}, "not known": {"no": 1}}


def test_one_annotator_has_nobody_to_disagree_with(catalogue: Catalogue) -> None:
    alone = evidence_of(fuse([CAPTIONS], catalogue, "first"), [CAPTIONS], ["captions"], catalogue)
    assert alone.opinions == {}


def test_nobody_asked_for_languages(catalogue: Catalogue) -> None:
    said = [marks([[1, 0, NAN]])]
    assert evidence_of(fuse(said, catalogue, "first"), said, ["fields"], catalogue).languages == {}


counts = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), max_size=2)
tables = st.dictionaries(st.sampled_from("xyz"), counts, max_size=2)
evidences = st.builds(
    Evidence,
    known=st.dictionaries(
        st.sampled_from(["", "nurse"]),
        st.builds(Known, samples=st.integers(0, 9), person=st.integers(0, 9), attributes=counts),
    ),
    languages=counts,
    terms=tables,
    opinions=st.dictionaries(
        st.sampled_from(["gender", "person"]),
        st.dictionaries(st.just("a x b"), tables, max_size=1),
        max_size=2,
    ),
    notes=counts,
)


@given(evidences, evidences, evidences)
def test_adding_is_the_same_in_any_order(one: Evidence, other: Evidence, third: Evidence) -> None:
    assert (one + other) + third == third + (other + one)
    assert one + Evidence() == Evidence() + one == add_up([one])
    assert sum((one + other).languages.values()) == sum(one.languages.values()) + sum(
        other.languages.values()
    )


def test_a_batch_cut_in_two_adds_up(catalogue: Catalogue) -> None:
    def part(rows: slice) -> Evidence:
        inside = (CAPTIONS.label_rows >= rows.start) & (CAPTIONS.label_rows < rows.stop)
        cut = Marks(
            CAPTIONS.values[rows],
            CAPTIONS.person[rows],
            CAPTIONS.label_rows[inside] - rows.start,
            CAPTIONS.label_ids[inside],
            list(CAPTIONS.languages or ())[rows],
        )
        return evidence_of(fuse([cut], catalogue, "first"), [cut], ["captions"], catalogue)

    whole, parts = part(slice(0, 5)), [part(slice(0, 2)), part(slice(2, 5))]
    assert add_up(parts) == whole + Evidence()


def test_evidence_is_written_and_read(tmp_path: Path, evidence: Evidence) -> None:
    write_evidence(str(tmp_path), "00000", evidence)
    assert read_evidence(str(tmp_path / "00000.json")) == evidence


def test_evidence_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read .*run annotate again"):
        read_evidence(str(tmp_path / "none.json"))
    (tmp_path / "other.json").write_text('{"rows": 3}')
    with pytest.raises(InputError, match=r"other\.json: holds no evidence; run annotate again"):
        read_evidence(str(tmp_path / "other.json"))

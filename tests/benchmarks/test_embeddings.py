"""The embeddings benchmark at a tiny size, and that what it times is what it says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import embeddings
from benchmarks.embeddings import BILLION, HOUR, KEY, Drawn, Kind, Settings, catalogue, heads
from pipelines.annotators.embedding_tables import EmbeddingTables
from pipelines.annotators.embeddings import EmbeddingAnnotator

SMALL = Settings(rows=400, shards=2, dimension=16, repeats=1)


@pytest.mark.parametrize("kind", SMALL.kinds)
def test_every_kind_of_table_gives_the_marks_of_the_heads(tmp_path: Path, kind: Kind) -> None:
    drawn, asked = Drawn.of(SMALL, "float16"), heads(SMALL.dimension)
    drawn.write(tmp_path, kind)
    tables = EmbeddingTables(str(tmp_path), None if kind == "npy" else KEY)
    found = drawn.annotate(EmbeddingAnnotator(catalogue(), asked, tables, True))
    nobody, gender = asked[0], asked[1]
    for array, values in zip(drawn.arrays, found, strict=True):
        said = gender.decide(gender.probabilities(array))
        said[nobody.decide(nobody.probabilities(array))[:, 0] == 0] = np.nan
        np.testing.assert_array_equal(values[:, :2], said)
        assert 0.02 < (~np.isnan(values)).mean() < 0.98  # decided for some, not for others


def test_the_product_is_that_of_the_heads_weights() -> None:
    drawn, asked = Drawn.of(SMALL, "float32"), heads(SMALL.dimension)
    weights = np.array([row for head in asked for row in head.weights], dtype=np.float32)
    (first, _) = drawn.multiply(weights)
    assert first.shape == (400, 1 + 2 + 4 + 3)
    np.testing.assert_allclose(first[:, 0], drawn.arrays[0] @ weights[0], rtol=1e-4, atol=1e-5)


def test_the_report(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    report = embeddings.main(
        Settings(rows=300, shards=2, dimension=8, repeats=1, markdown=path, kinds=("npy", "npz"))
    )
    assert [table.rows[0][0] for table in report.tables] == ["npy", "npy"]
    for table in report.tables:
        for line in table.rows:
            speed, product, ratio, hours = (float(line[i].replace(",", "")) for i in (1, 2, 3, 5))
            assert ratio == pytest.approx(product / speed, rel=0.05)
            assert hours == pytest.approx(BILLION / speed / HOUR, rel=0.05)
    assert path.read_text() == report.markdown()

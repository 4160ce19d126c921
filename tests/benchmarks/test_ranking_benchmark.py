"""The benchmark of retrieval bias at a tiny size: its loop and ours find the same."""

from pathlib import Path

import pytest

from benchmarks import ranking
from benchmarks.ranking import Settings


def test_the_loop_finds_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.md"
    settings = Settings(
        prompts=3,
        dimensions=8,
        resamples=100,
        permutations=100,
        peer_prompts=2,
        peer_draws=3,
        markdown=file,
    )
    report = ranking.main(settings)
    (table,) = report.tables
    at = table.columns.index("largest difference")
    assert [row[0] for row in table.rows] == ["gender, 2 groups", "race, 7 groups"]
    assert all(float(row[at]) < 1e-10 for row in table.rows)
    assert file.read_text() == capsys.readouterr().out


def test_gender_is_planted_and_race_is_not() -> None:
    faces = ranking.faces_of(Settings(prompts=1, dimensions=4))
    means = [faces.images[faces.gender == name, 0].mean() for name in ranking.GENDER]
    assert means[0] - means[1] == pytest.approx(Settings().strength, abs=0.2)
    spread = [faces.images[faces.race == name, 0].mean() for name in ranking.RACE]
    assert max(spread) - min(spread) < 0.5
    assert len(faces.images) == sum(ranking.GENDER.values()) == sum(ranking.RACE.values())

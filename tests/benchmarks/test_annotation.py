"""The benchmarks of annotation, at sizes that take seconds."""

import json
from pathlib import Path

import pytest

from benchmarks import annotation_job, caption_quality
from m4.errors import InputError
from pipelines.settings import AnnotateSettings
from pipelines.shards import Sample, find_shards, read_samples
from pipelines.stages import annotate

CATALOGUE = """
name: small
purpose: tests
sensitive:
  gender:
    describes: as captions name it
    values:
      woman: {target: 0.5, terms: [woman, girl, policewoman, she]}
      man: {target: 0.5, terms: [man, boy, he]}
labels:
  nurse: {terms: [nurse]}
proxies:
  kitchen: {terms: [kitchen]}
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    path = tmp_path / "catalogue.yaml"
    path.write_text(CATALOGUE)
    return str(path)


class TestJob:
    @pytest.fixture
    def settings(self, tmp_path: Path, catalogue: str) -> annotation_job.Settings:
        return annotation_job.Settings(
            shards=2, samples=50, processes=1, repeats=1, catalogue=catalogue, picture=100
        )

    def test_every_sample_that_is_written_can_be_used(
        self, tmp_path: Path, settings: annotation_job.Settings
    ) -> None:
        annotation_job.write_shards(tmp_path / "shards", settings)
        found = [each for shard in find_shards(str(tmp_path / "shards")) for each in
                 read_samples(shard)]  # fmt: skip
        assert len(found) == 100 and all(isinstance(each, Sample) for each in found)

    def test_the_loop_does_the_same_work_as_the_job(
        self, tmp_path: Path, settings: annotation_job.Settings
    ) -> None:
        annotation_job.write_shards(tmp_path / "shards", settings)
        for name, way in (("loop", annotation_job.by_loop), ("job", annotate)):
            way(
                AnnotateSettings(
                    shards=(str(tmp_path / "shards"),),
                    catalogue=settings.catalogue,
                    run=str(tmp_path / name),
                )
            )
        for folder in ("annotations", "evidence"):
            loop, job = (
                {path.name: path.read_bytes() for path in (tmp_path / name / folder).iterdir()}
                for name in ("loop", "job")
            )
            assert loop == job

    def test_the_report(
        self, settings: annotation_job.Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = annotation_job.main(settings)
        (table,) = report.tables
        assert [row[0] for row in table.rows] == ["plain loop", "Beam job"]
        assert table.rows[0][2] == "1"
        assert "100 samples in 2 shards" in capsys.readouterr().out


MEN, WOMEN = frozenset({"man", "he"}), frozenset({"woman", "she"})


class TestQuality:
    @pytest.mark.parametrize(
        ("captions", "wanted"),
        [
            (["a woman"] * 5, ["woman"] * 5),
            (["a woman"] * 4 + ["a person"], ["woman"] * 5),
            (["a woman"] * 3 + ["a person"] * 2, [None] * 3 + ["woman"] * 2),
            (["a man"] * 4 + ["a woman"], [None] * 4 + ["man"]),
            (["a dog"] * 4 + ["the man"], [None] * 4 + ["nobody"]),
            (["a dog"] * 5, ["nobody"] * 5),
            (["he, a man", "The MAN.", "man-made", "no one", "a dog"], [None] * 3 + ["man"] * 2),
        ],
    )
    def test_a_caption_does_not_vote_on_itself(
        self, captions: list[str], wanted: list[str | None]
    ) -> None:
        assert list(caption_quality.consensus(captions, MEN, WOMEN)) == wanted

    def test_precision_and_recall(self, tmp_path: Path, catalogue: str) -> None:
        pictures = {
            1: ["a woman", "the woman", "woman", "she is", "one girl"],  # all are found
            2: ["the man", "a man", "one man", "he runs", "a woman"],  # one is wrong
            3: ["man", "man", "man", "he", "a gentleman"],  # one is not known to the lexicon
            4: ["a dog", "the dog", "dogs", "one dog", "a boy and his dog"],
        }
        lines = [
            json.dumps({"image_id": picture, "caption": caption})
            for picture, captions in pictures.items()
            for caption in captions
        ]
        (tmp_path / "coco.jsonl").write_text("\n".join(lines))
        (tmp_path / "pairs.json").write_text('[["man", "woman"], ["He", "She"]]')
        report = caption_quality.main(
            caption_quality.Settings(
                coco=tmp_path / "coco.jsonl", pairs=tmp_path / "pairs.json", catalogue=catalogue
            )
        )
        (table,) = report.tables
        # Of picture 2, the four captions that say "man" have one neighbour that says otherwise.
        assert table.rows[0] == ("gender.woman", "5", "6", "0.833", "1.000")
        assert table.rows[1] == ("gender.man", "6", "4", "1.000", "0.667")
        assert "Of 5 on which the others name no gender, 1 (20.0%)" in table.caption

    def test_nothing_to_measure_on(self, catalogue: str) -> None:
        with pytest.raises(InputError, match="nothing to measure on"):
            caption_quality.main(caption_quality.Settings(catalogue=catalogue))
        with pytest.raises(InputError, match="coco needs pairs"):
            caption_quality.main(
                caption_quality.Settings(coco=Path("coco.jsonl"), catalogue=catalogue)
            )

    def test_words_that_are_no_pairs(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.json"
        path.write_text('[["man"]]')
        with pytest.raises(InputError, match=r"pairs\.json: not a list of pairs"):
            caption_quality.read_pairs(path)

    def test_real_captions_are_read_well(self, shared_data: Path) -> None:
        """The figures of the docs, on a fifth of the pictures: contradictions are rare."""
        settings = caption_quality.Settings(
            coco=shared_data / "captions" / "coco_val2017.jsonl.gz",
            pairs=shared_data / "lexicons" / "debiaswe_equalize_pairs.json",
            emoji=shared_data / "emoji",
        )
        coco, emoji = caption_quality.main(settings).tables
        for row in (*coco.rows, *emoji.rows[:2]):
            assert float(row[3]) > 0.98, row
            assert float(row[4]) > 0.7, row

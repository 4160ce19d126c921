"""How often is the caption lexicon right? On captions with a consensus, and on names with a truth.

COCO. Five people described each picture, none knowing of the others. For each caption the truth is
what the *other four* say, read by a short word list that is none of ours: the picture shows a woman
where at least three of them use a word that the list pairs with women and none one that it pairs
with men; likewise a man. Captions on which the other four do not agree like that are left out of
precision and recall. Where none of the four uses a word of either, a mark is no error by itself:
who names a gender where others say "a person" is mostly right. It is counted apart.

Named pictures (emoji). The json of each says the perceived gender, the skin tone and the role that
were drawn; the caption is the picture's name. Roles are scored where the json says one.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.machine import describe
from benchmarks.report import Report, Table, progress
from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from pipelines.annotators.marks import Batch, Marks
from pipelines.captions.annotator import CaptionAnnotator
from pipelines.shards import Sample, SampleSpan, find_shards, read_samples

VOTES = 3  # of the other four
LEAVES_OUT = (
    "COCO: pictures on whose people the other four captions do not agree; {split:,} of {all:,} "
    "captions.",
    "COCO was written by paid annotators who were asked for full sentences. Web captions name "
    "people less often and more loosely: precision may carry over, recall does not.",
    "Whether captions are right about the person in the picture: gender is as others perceived it.",
)


@dataclass(frozen=True)
class Settings:
    """What is read.

    Attributes
    ----------
    coco : captions as json lines with image_id and caption, .gz or not
    pairs : word list, JSON pairs of a man's and a woman's word
    emoji : folder of shards whose json says gender, skin_tone and role
    catalogue : the catalogue whose lexicon is measured
    markdown : file that the report is also written to
    """

    coco: Path | None = None
    pairs: Path | None = None
    emoji: Path | None = None
    catalogue: str = "builtin:people"
    markdown: Path | None = None


@dataclass(frozen=True)
class Score:
    """How often what is said is true, and what is true is said."""

    name: str
    said: int
    true: int
    both: int

    @classmethod
    def of(cls, name: str, said: np.ndarray, true: np.ndarray) -> "Score":
        return cls(name, int(said.sum()), int(true.sum()), int((said & true).sum()))

    @property
    def cells(self) -> tuple[str, ...]:
        precision = f"{self.both / self.said:.3f}" if self.said else "-"
        recall = f"{self.both / self.true:.3f}" if self.true else "-"
        return self.name, f"{self.true:,}", f"{self.said:,}", precision, recall


def table(caption: str, scores: Sequence[Score]) -> Table:
    columns = ("mark", "true", "said", "precision", "recall")
    return Table(caption, columns, tuple(score.cells for score in scores))


# COCO


def read_coco(path: Path) -> dict[int, list[str]]:
    """Captions by picture."""
    captions = defaultdict(list)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            row = json.loads(line)
            captions[row["image_id"]].append(row["caption"])
    return captions


def read_pairs(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Words of men, and of women."""
    rows = json.loads(path.read_text("utf-8"))
    if any(len(row) != 2 for row in rows):
        raise InputError(f"{path}: not a list of pairs; a man's word stands first in each")
    men, women = (frozenset(row[side].lower() for row in rows) for side in range(2))
    return men - women, women - men


def consensus(
    captions: Sequence[str], men: frozenset[str], women: frozenset[str]
) -> Iterator[str | None]:
    """For each caption what the others agree on: woman, man, nobody; None where they do not."""
    words = [
        set("".join(c if c.isalnum() else " " for c in each.lower()).split()) for each in captions
    ]
    names = [(bool(each & women), bool(each & men)) for each in words]
    for one in range(len(captions)):
        others = [named for other, named in enumerate(names) if other != one]
        of_women, of_men = (sum(named[side] for named in others) for side in range(2))
        if of_women >= VOTES and not of_men:
            yield "woman"
        elif of_men >= VOTES and not of_women:
            yield "man"
        else:
            yield None if of_men or of_women else "nobody"


def coco_tables(settings: Settings, catalogue: Catalogue) -> tuple[list[Table], dict[str, int]]:
    assert settings.coco is not None and settings.pairs is not None
    men, women = read_pairs(settings.pairs)
    captions, truth = [], []
    for each in read_coco(settings.coco).values():
        captions += each
        truth += consensus(each, men, women)
    marks = read(captions, catalogue)
    agreed = np.array([each in ("woman", "man") for each in truth])
    said = {name: marks.values[:, k] > 0.5 for k, name in enumerate(catalogue.value_names)}
    scores = [
        Score.of(
            f"gender.{value}",
            said[f"gender.{value}"] & agreed,
            np.array([each == value for each in truth]),
        )
        for value in ("woman", "man")
    ]
    nobody = np.array([each == "nobody" for each in truth])
    first = catalogue.value_names.index("gender.woman")
    named = ~np.isnan(marks.values[:, first])
    wrong = int((named & nobody).sum())
    text = (
        f"COCO: {len(captions):,} captions; for {int(agreed.sum()):,} the other four agree on a "
        f"woman or a man. Of {int(nobody.sum()):,} on which the others name no gender, {wrong:,} "
        f"({wrong / max(int(nobody.sum()), 1):.1%}) are marked with one."
    )
    left = len(captions) - int(agreed.sum()) - int(nobody.sum())
    return [table(text, scores)], {"split": left, "all": len(captions)}


# Named pictures


def emoji_tables(settings: Settings, catalogue: Catalogue) -> list[Table]:
    samples = [
        sample
        for shard in find_shards(str(settings.emoji))
        for sample in read_samples(shard)
        if isinstance(sample, Sample)
    ]
    marks = read([sample.caption for sample in samples], catalogue)
    facts = [sample.metadata for sample in samples]
    scores = []
    for value, drawn in (("woman", "female"), ("man", "male")):
        true = np.array([fact["gender"] == drawn for fact in facts])
        column = catalogue.value_names.index(f"gender.{value}")
        scores.append(Score.of(f"gender.{value}", marks.values[:, column] > 0.5, true))
    scores += _tones(marks, facts, catalogue)
    scores += _roles(marks, facts, catalogue)
    text = f"{len(samples):,} pictures with names; the truth is what was drawn."
    return [table(text, scores)]


TONES = {
    "light": ("light", "medium-light"),
    "medium": ("medium",),
    "dark": ("medium-dark", "dark"),
}


def _tones(
    marks: Marks, facts: Sequence[Mapping[str, object]], catalogue: Catalogue
) -> Iterator[Score]:
    """Scores of skin tones; pictures of two people with different ones have neither."""
    for value, drawn in TONES.items():
        column = catalogue.value_names.index(f"skin tone.{value}")
        true = np.array([fact["skin_tone"] in drawn for fact in facts])
        yield Score.of(f"skin tone.{value}", marks.values[:, column] > 0.5, true)


def _roles(
    marks: Marks, facts: Sequence[Mapping[str, object]], catalogue: Catalogue
) -> Iterator[Score]:
    """Scores of the occupations that are a role's name, one by one."""
    roles = np.array([str(fact["role"]) for fact in facts])
    for r, label in enumerate(catalogue.label_names):
        true = roles == label
        if true.any():
            said = np.zeros(len(roles), dtype=bool)
            said[marks.label_rows[marks.label_ids == r]] = True
            yield Score.of(label, said & (roles != "None"), true)


def read(captions: Sequence[str], catalogue: Catalogue) -> Marks:
    """What the annotator says of captions, all read as English."""
    samples = [Sample("0" * 32, "", SampleSpan(0, 0), caption, {}) for caption in captions]
    return CaptionAnnotator(catalogue, languages=()).annotate(Batch(samples))


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    catalogue = load_catalogue(settings.catalogue)
    tables: list[Table] = []
    counts = {"split": 0, "all": 0}
    if settings.coco is not None:
        if settings.pairs is None:
            raise InputError("coco needs pairs: a word list that reads the other captions")
        found, counts = coco_tables(settings, catalogue)
        tables += found
    if settings.emoji is not None:
        tables += emoji_tables(settings, catalogue)
    if not tables:
        raise InputError("nothing to measure on; give coco and pairs, emoji, or all three")
    progress(f"{catalogue.name}: {len(catalogue.label_names)} labels")
    left_out = tuple(sentence.format(**counts) for sentence in LEAVES_OUT)
    report = Report("Precision and recall of captions", tuple(tables), left_out, describe(()))
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))

"""Marks what captions name, in the languages that the catalogue has terms for."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.annotators.marks import Batch, Marks, share_out, unmarked
from pipelines.captions.languages import identify
from pipelines.captions.lexicon import Lexicon, Matches
from pipelines.captions.phrases import ENGLISH
from pipelines.captions.words import in_pieces


def check_languages(catalogue: Catalogue, languages: Sequence[str]) -> None:
    """Raise `InputError` where a catalogue has no terms in one of the languages."""
    for language in languages:
        for _, mark in catalogue.each_mark():
            if mark.terms if language == ENGLISH else language in mark.translations:
                break
        else:
            raise InputError(
                f"annotator 'captions' has nothing to look for in language {language!r}: "
                f"catalogue {catalogue.name!r} has no "
                + ("`terms`" if language == ENGLISH else "terms in it; include a translation")
            )


class CaptionAnnotator:
    """Marks the sensitive values, the person and the labels that a caption names.

    A caption that names no value of an attribute leaves it unknown, and one that names nobody does
    not say that nobody is there. A caption in a language without terms marks nothing; `Marks`
    gives the language of each, so that such captions can be counted.

    Parameters
    ----------
    languages : ISO 639-1 codes of the languages that are read. Captions are in the language that
        `pipelines.captions.languages.identify` finds; where it is not sure of a short one it is
        taken to be English, if that is among them. Empty: languages are not identified, every
        caption is read as English, and `Marks.languages` is None
    names : whether given names that the catalogue lists count as terms

    Raises `InputError` where the catalogue has no terms in one of the languages.
    """

    name = "captions"
    size = 0
    fields = ()

    def __init__(
        self, catalogue: Catalogue, *, languages: Sequence[str] = (ENGLISH,), names: bool = False
    ):
        check_languages(catalogue, languages or (ENGLISH,))
        self._catalogue = catalogue
        self._identifies = bool(languages)
        self._assumed = ENGLISH if ENGLISH in languages else None
        self._lexicons: dict[str, Lexicon] = {}
        for language in languages or (ENGLISH,):
            lexicon = Lexicon(catalogue, language=language, names=names)
            self._lexicons[language] = lexicon

    def begin(self, stem: str) -> None:
        """Nothing belongs to a shard as a whole."""

    def annotate(self, batch: Batch) -> Marks:
        """Read the captions of n samples."""
        languages, matches_of = self._read([sample.caption for sample in batch.samples])
        n, m, c = len(batch), len(self._catalogue.value_names), len(self._catalogue.concepts)
        values, person = unmarked(n, self._catalogue)
        held = np.zeros((n, m), dtype=bool)
        labels = [np.zeros(0, dtype=np.int64)]
        found: Counter[tuple[str, str]] = Counter()
        for language, matches in matches_of.items():
            lexicon = self._lexicons[language]
            rows, columns = lexicon.values.of_matches(matches)
            held[rows, columns] = True
            person[rows] = 1.0
            person[matches.rows[lexicon.person[matches.phrases]]] = 1.0
            rows, ids = lexicon.labels.of_matches(matches)
            labels.append(rows * c + ids)
            found.update(_counted(lexicon, matches))
        share_out(values, held, self._catalogue)
        label_rows, label_ids = np.divmod(np.unique(np.concatenate(labels)), max(c, 1))
        known = languages if self._identifies else None
        return Marks(values, person, label_rows, label_ids, languages=known, found=found)

    def _read(self, captions: Sequence[str]) -> tuple[list[str | None], dict[str, Matches]]:
        """The language of each caption, and what each language's lexicon finds in its captions."""
        languages: list[str | None] = []
        pieces: dict[str, list[tuple[int, Matches]]] = {each: [] for each in self._lexicons}
        for first, words in in_pieces(captions):
            here = (
                identify(words, assumed=self._assumed)
                if self._identifies
                else [ENGLISH] * len(words)
            )
            languages += here
            for language in self._lexicons.keys() & set(here):
                matches = self._lexicons[language].find_words(words)
                if here.count(language) < len(here):
                    kept = np.array([each == language for each in here])[matches.rows]
                    matches = Matches(matches.rows[kept], matches.phrases[kept])
                pieces[language].append((first, matches))
        return languages, {each: Matches.joined(found) for each, found in pieces.items()}


def _counted(lexicon: Lexicon, matches: Matches) -> dict[tuple[str, str], int]:
    """How often which term was found, by mark and term as listed."""
    counts = np.bincount(lexicon.listed.of_matches(matches)[1])
    found = np.flatnonzero(counts)
    sources = (lexicon.sources[i] for i in found.tolist())
    return {
        (source.mark, source.term): count
        for source, count in zip(sources, counts[found].tolist(), strict=True)
    }

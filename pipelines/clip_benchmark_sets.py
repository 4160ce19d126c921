"""Data sets of clip_benchmark: read, and written.

    <root>/<split>/0.tar 1.tar ...              a picture and `cls` or `txt` in each sample
    <root>/<split>/nshards.txt                  how many tars
    <root>/classnames.txt                       a class in each line; `cls` counts them from 0
    <root>/zeroshot_classification_templates.txt    a prompt in each line, the class at {c}
    <root>/dataset_type.txt                     `retrieval`: each line of `txt` is a caption

As `build_wds_dataset` and `webdataset_builder` of clip_benchmark 1.6.2 read and write them.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, groupby
from pathlib import PurePosixPath
from typing import IO

from pydantic import field_validator

from m4.catalogue import Model
from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.encoded_sets import in_words
from pipelines.labelled_images import (
    CLASS,
    ImageSource,
    LabelledImage,
    Labeller,
    TarImages,
    as_given,
)
from pipelines.metadata_tables import Dropped
from pipelines.shards import NO_CAPTION, Failure, find_shards
from vision.prompts import checked_templates

TEST = "test"
SHARDS = "nshards.txt"
CLASSES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
TYPE = "dataset_type.txt"
RETRIEVAL, CLASSIFICATION = "retrieval", "classification"
PLACE, THEIR_PLACE = "{}", "{c}"
NO_CLASS = "cls is not the number of a class"
OTHER_FORMAT = "image is neither JPEG, PNG nor WebP"
UNKNOWN_CLASS = "label is not known, or none of the classes"
LARGEST_SHARD = 10_000  # pictures in a tar


def splits_of(folder: str) -> list[str]:
    """The splits of a data set of clip_benchmark; none where the folder is something else."""
    found = storage.files(folder, f"*/{SHARDS}")
    return [PurePosixPath(path).parent.name for path in found]


def open_clip_benchmark_set(folder: str, split: str, labeller: Labeller) -> ImageSource:
    """Find the tars of a split, and what the data set says of its classes.

    The label `cls` of a picture is the number of its class, from 0. Raises `InputError` where
    something is missing.
    """
    splits = splits_of(folder)
    if split not in splits:
        raise InputError(f"{folder}: no split {split!r} ({split}/{SHARDS}); it has {splits}")
    kind = " ".join(_lines(folder, TYPE) or []).strip().lower() or CLASSIFICATION
    if kind not in (RETRIEVAL, CLASSIFICATION):
        raise InputError(
            f"{storage.join(folder, TYPE)}: {kind!r} data sets are not read; only {RETRIEVAL} and "
            f"{CLASSIFICATION} are"
        )
    classes, templates = _lines(folder, CLASSES), _lines(folder, TEMPLATES)
    if kind == RETRIEVAL:
        classes, templates, check = None, None, _lines_as_captions
    else:
        check = as_given if classes is None else partial(_has_class, frozenset(_numbers(classes)))
    count = storage.read_bytes(storage.join(folder, split, SHARDS)).decode(errors="replace")
    if not count.strip().isdecimal() or not int(count):
        raise InputError(f"{storage.join(folder, split, SHARDS)}: {count.strip()!r} is no number")
    tars = [storage.join(folder, split, f"{number}.tar") for number in range(int(count))]
    return ImageSource(
        f"{PurePosixPath(folder).name}/{split}",
        tuple(TarImages(shard, labeller, check) for shard in find_shards(tars)),
        labeller,
        None if classes is None else tuple(classes),
        None if templates is None else tuple(_ours(line) for line in templates),
    )


def _lines(folder: str, name: str) -> list[str] | None:
    """The lines of a file, without space around them; None where it is not there."""
    path = storage.join(folder, name)
    if not storage.exists(path):
        return None
    try:
        return [line.strip() for line in storage.read_bytes(path).decode().splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None


def _numbers(classes: list[str]) -> Iterator[str]:
    return map(str, range(len(classes)))


def _ours(template: str) -> str:
    """A template with {} for the class; doubled braces stand for themselves, as in `format`."""
    place = "\0"
    try:
        return template.format(c=place).replace(place, PLACE)
    except (AttributeError, KeyError, IndexError, ValueError):
        raise InputError(
            f"{TEMPLATES}: {template!r} has another place than {THEIR_PLACE}"
        ) from None


def _theirs(template: str) -> str:
    escaped = template.replace("{", "{{").replace("}", "}}")
    return escaped.replace("{{}}", THEIR_PLACE)


def _has_class(
    numbers: frozenset[str], labels: Mapping[str, str], captions: tuple[str, ...]
) -> tuple[str, ...]:
    if labels.get(CLASS) not in numbers:
        raise UnusableSample(NO_CLASS)
    return captions


def _lines_as_captions(labels: Mapping[str, str], captions: tuple[str, ...]) -> tuple[str, ...]:
    lines = (line.strip() for caption in captions for line in caption.splitlines())
    found = tuple(line for line in lines if line)
    if not found:
        raise UnusableSample(NO_CAPTION)
    return found


class Classification(Model):
    """A question of one label: the values that are its classes, and prompts with {} for them."""

    label: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]

    @field_validator("classes")
    @classmethod
    def _classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f"classes {classes}: give at least one, and each once")
        return classes

    @field_validator("templates")
    @classmethod
    def _templates(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        return checked_templates(templates)


class WrittenSet(Model):
    """What was written: pictures, tars, and by reason what was not."""

    images: int
    shards: int
    left_out: dict[str, int]


def write_clip_benchmark_set(
    source: ImageSource,
    folder: str,
    task: Classification | None,
    *,
    split: str = TEST,
    largest_shard: int = LARGEST_SHARD,
) -> WrittenSet:
    """Write pictures as a split that clip_benchmark's `wds/` data sets read.

    Pictures are copied byte for byte; their labels and their key go along as `json`. The same
    pictures give the same bytes. `nshards.txt` is written last: without it nothing is a split.

    Parameters
    ----------
    task : what classes are told apart; None for retrieval, of the pictures that have captions
    largest_shard : pictures in a tar

    Raises `InputError` where the split is there already, where another split is of another task,
    and where no picture can be written.
    """
    texts = _texts_of(task)
    _check_free(folder, split, texts)
    left_out: Counter[str] = Counter(source.left_out)
    images = shards = 0
    numbered = enumerate(_samples(source, task, left_out))
    for shard, samples in groupby(numbered, lambda each: each[0] // largest_shard):
        with storage.atomic_output(storage.join(folder, split, f"{shard}.tar")) as stream:
            images += _write_tar(stream, samples)
        shards += 1
    if not images:
        said = in_words(left_out)
        raise InputError(f"{source.name}: no picture can be written to {folder}: {said}")
    for name, lines in texts.items():
        _write_lines(storage.join(folder, name), lines)
    _write_lines(storage.join(folder, split, SHARDS), (str(shards),))
    return WrittenSet(images=images, shards=shards, left_out=dict(left_out))


def _texts_of(task: Classification | None) -> dict[str, tuple[str, ...]]:
    """The lines of the files that all splits share, by the file's name."""
    if task is None:
        return {TYPE: (RETRIEVAL,)}
    templates = tuple(_theirs(template) for template in task.templates)
    texts = {CLASSES: task.classes, TEMPLATES: templates}
    for name, lines in texts.items():
        for line in lines:
            if line.splitlines() != [line] or line != line.strip():
                raise InputError(
                    f"{line!r} cannot be a line of {name}; take out its line breaks, and the space "
                    "around it"
                )
    return texts


def _check_free(folder: str, split: str, texts: dict[str, tuple[str, ...]]) -> None:
    splits = splits_of(folder)
    if split in splits:
        raise InputError(f"{folder}: has a split {split!r} already; give another folder or split")
    for name in (TYPE, CLASSES, TEMPLATES):
        there = _lines(folder, name)
        if splits and there != (list(texts[name]) if name in texts else None):
            raise InputError(
                f"{storage.join(folder, name)}: split {splits[0]!r} is of another task; give "
                "another folder"
            )


def _write_lines(path: str, lines: tuple[str, ...]) -> None:
    storage.write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def _samples(
    source: ImageSource, task: Classification | None, left_out: Counter[str]
) -> Iterator[dict[str, bytes]]:
    """The members of each sample by extension; counts what is left out."""
    for found in chain.from_iterable(source.shards):
        if isinstance(found, Failure | Dropped):
            left_out[found.reason] += 1
            continue
        try:
            answer = _captions(found) if task is None else _class(found, task)
            yield {_extension(found.image): found.image, **answer, "json": _json(found)}
        except UnusableSample as error:
            left_out[str(error)] += 1


def _captions(image: LabelledImage) -> dict[str, bytes]:
    if not image.captions:
        raise UnusableSample(NO_CAPTION)
    return {"txt": "\n".join(" ".join(each.split()) for each in image.captions).encode()}


def _class(image: LabelledImage, task: Classification) -> dict[str, bytes]:
    value = image.labels.get(task.label)
    if value not in task.classes:
        raise UnusableSample(UNKNOWN_CLASS)
    return {CLASS: str(task.classes.index(value)).encode()}


def _extension(image: bytes) -> str:
    if image.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if image.startswith(b"\x89PNG"):
        return "png"
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return "webp"
    raise UnusableSample(OTHER_FORMAT)


def _json(image: LabelledImage) -> bytes:
    labels = {name: value for name, value in image.labels.items() if name != CLASS}
    return json.dumps({**labels, "key": image.key}, sort_keys=True).encode()


def _write_tar(stream: IO[bytes], samples: Iterable[tuple[int, dict[str, bytes]]]) -> int:
    """Write numbered samples as clip_benchmark names them; how many there were."""
    written = 0
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, members in samples:
            for extension, content in members.items():
                info = tarfile.TarInfo(f"s{number:07d}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            written += 1
    return written

"""Data sets of clip_benchmark: read, written, and read by webdataset as clip_benchmark does."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from m4.errors import InputError
from pipelines.clip_benchmark_sets import (
    NO_CLASS,
    OTHER_FORMAT,
    UNKNOWN_CLASS,
    Classification,
    _ours,
    _theirs,
    splits_of,
    write_clip_benchmark_set,
)
from pipelines.image_sets import ImageSetSettings, open_images
from pipelines.labelled_images import ImageSource, LabelledImage
from pipelines.shards import NO_CAPTION, Failure

Tar = Callable[..., bytes]
TEMPLATES = ("a photo of a {}.", "{}, in {braces}")


def picture(number: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 50, 99)).save(stream, kind)
    return stream.getvalue()


def read(source: ImageSource) -> list[LabelledImage]:
    return [each for shard in source.shards for each in shard if isinstance(each, LabelledImage)]


def opened(folder: Path, **settings: Any) -> ImageSource:
    return open_images(ImageSetSettings(images=str(folder), **settings))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def animals(tmp_path: Path, tar_bytes: Tar) -> Path:
    """A data set as clip_benchmark writes it: 12 tars of one picture, three classes."""
    root = tmp_path / "wds_animals"
    (root / "test").mkdir(parents=True)
    for number in range(12):
        members = [(f"s{number:07d}.webp", picture(number, "WEBP"))]
        members += [(f"s{number:07d}.cls", str(number % 3).encode())]
        (root / "test" / f"{number}.tar").write_bytes(tar_bytes(members))
    (root / "test" / "nshards.txt").write_text("12\n")
    (root / "classnames.txt").write_text("cat\ndog \nsnow leopard\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na {{{c}}}\n")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> ImageSource:
    """Seven pictures; of one the answer is not known, one has no caption, one is a GIF."""
    kinds = ["PNG", "JPEG", "WEBP", "PNG", "PNG", "GIF", "PNG"]
    answers = ["woman", "man", "woman", "", "person", "man", "man"]
    rows = ["file,gender,cls,caption"]
    (tmp_path / "pictures").mkdir()
    for number, (kind, answer) in enumerate(zip(kinds, answers, strict=True)):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(picture(number, kind))
        rows.append(f"{number}.jpg,{answer},9,{f'caption {number}' if number != 3 else ''}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return opened(tmp_path / "pictures", labels=str(tmp_path / "labels.csv"))


GENDER = Classification(label="gender", classes=("woman", "man"), templates=TEMPLATES)


class TestReading:
    def test_classes_templates_and_pictures_in_the_order_of_the_tars(self, animals: Path):
        source = opened(animals)
        assert source.name == "wds_animals/test"
        assert source.classes == ("cat", "dog", "snow leopard")
        assert source.templates == ("a photo of a {}.", "a {{}}")
        images = read(source)
        assert [each.image for each in images] == [picture(n, "WEBP") for n in range(12)]
        assert [each.labels["cls"] for each in images] == [str(n % 3) for n in range(12)]
        assert (images[10].key, images[10].captions) == ("10/s0000010", ())

    def test_another_split_and_a_choice(self, animals: Path):
        (animals / "test").rename(animals / "train")
        source = opened(animals, split="train", where={"class": "2"}, columns={"class": "cls"})
        assert [dict(each.labels) for each in read(source)] == [{"class": "2"}] * 4
        with pytest.raises(InputError, match=r"no split 'test'.*it has \['train'\]"):
            opened(animals)

    def test_a_class_is_not_taken_for_a_label_that_is_not_there(self, animals: Path):
        source = opened(animals, columns={"cls": "label"})
        assert [dict(each.labels) for each in read(source)] == [{}] * 12
        with pytest.raises(InputError, match="no image has a label 'label' to be 'cls'"):
            source.labeller.check_met("animals")

    def test_values_of_classes_are_replaced_and_chosen(self, animals: Path):
        source = opened(animals, values={"cls.2": "leopard", "cls.0": ""}, where={"cls": "leopard"})
        assert [dict(each.labels) for each in read(source)] == [{"cls": "leopard"}] * 4
        source.labeller.check_met("animals")

    def test_each_line_of_a_retrieval_set_is_a_caption(self, animals: Path, tar_bytes: Tar):
        (animals / "dataset_type.txt").write_text("\nRetrieval\n")
        (animals / "test" / "nshards.txt").write_text("1")
        members = [("s0.jpg", picture(0, "JPEG")), ("s0.txt", b"one\n two\n\nthree\n")]
        members += [("s1.jpg", picture(1, "JPEG")), ("s1.txt", b"\n"), ("s2.jpg", b"x")]
        (animals / "test" / "0.tar").write_bytes(tar_bytes(members))
        source = opened(animals)
        assert source.classes is None and source.templates is None
        (image,) = read(source)
        assert image.captions == ("one", "two", "three")
        lost = [each for each in source.shards[0] if isinstance(each, Failure)]
        assert [each.reason for each in lost] == [NO_CAPTION, NO_CAPTION]

    @pytest.mark.parametrize("number", [b"3", b"-1", b"cat", b"1.0", b""])
    def test_numbers_of_no_class_are_set_aside(self, animals: Path, tar_bytes: Tar, number: bytes):
        tar = tar_bytes([("s0.png", picture(0)), ("s0.cls", number)])
        (animals / "test" / "0.tar").write_bytes(tar)
        (found,) = opened(animals).shards[0]
        assert isinstance(found, Failure) and found.reason == NO_CLASS

    def test_without_names_of_classes_numbers_are_labels(self, animals: Path):
        (animals / "classnames.txt").unlink()
        (animals / "zeroshot_classification_templates.txt").unlink()
        source = opened(animals)
        assert source.classes is None and source.templates is None and len(read(source)) == 12

    @pytest.mark.parametrize(
        ("file", "text", "said"),
        [
            ("test/nshards.txt", "many", "'many' is no number"),
            ("test/nshards.txt", "0", "'0' is no number"),
            ("test/nshards.txt", "13", "12.tar: cannot be read"),
            ("dataset_type.txt", "multilabel", "'multilabel' data sets are not read"),
            ("zeroshot_classification_templates.txt", "a {}", "another place than {c}"),
            ("zeroshot_classification_templates.txt", "a {c", "another place than {c}"),
            ("zeroshot_classification_templates.txt", "a {c.x}", "another place than {c}"),
        ],
    )
    def test_files_that_cannot_be_used(self, animals: Path, file: str, text: str, said: str):
        (animals / file).write_text(text)
        with pytest.raises(InputError, match=said):
            opened(animals)

    def test_names_of_classes_that_are_not_utf8(self, animals: Path):
        (animals / "classnames.txt").write_bytes(b"\xff")
        with pytest.raises(InputError, match=r"classnames.txt: not UTF-8"):
            opened(animals)


class TestWriting:
    def test_what_is_written_is_read_back(self, folder: ImageSource, tmp_path: Path):
        out = tmp_path / "out"
        written = write_clip_benchmark_set(folder, str(out), GENDER, largest_shard=2)
        assert (written.images, written.shards) == (4, 2)
        assert written.left_out == {UNKNOWN_CLASS: 2, OTHER_FORMAT: 1}
        assert sorted(content(out)) == [
            "classnames.txt", "test/0.tar", "test/1.tar", "test/nshards.txt",
            "zeroshot_classification_templates.txt",
        ]  # fmt: skip
        source = opened(out)
        assert (source.classes, source.templates) == (GENDER.classes, TEMPLATES)
        before = {each.key: each for each in read(folder)}
        images = read(source)
        assert [each.labels["cls"] for each in images] == ["0", "1", "0", "1"]
        for image in images:
            assert image.image == before[image.labels["key"]].image
            assert image.labels["gender"] == GENDER.classes[int(image.labels["cls"])]

    def test_webdataset_reads_classes_as_clip_benchmark_does(
        self, folder: ImageSource, tmp_path: Path
    ):
        import webdataset

        write_clip_benchmark_set(folder, str(tmp_path / "out"), GENDER, largest_shard=3)
        names = (tmp_path / "out" / "classnames.txt").read_text().splitlines()
        lines = (tmp_path / "out" / "zeroshot_classification_templates.txt").read_text()
        count = int((tmp_path / "out" / "test" / "nshards.txt").read_text())
        shards = f"{tmp_path}/out/test/{{0..{count - 1}}}.tar"
        data = webdataset.WebDataset(shards, shardshuffle=False).decode(
            webdataset.autodecode.ImageHandler("pil", extensions=["webp", "png", "jpg", "jpeg"])
        )
        samples = list(data.to_tuple(["webp", "png", "jpg", "jpeg"], "cls"))
        assert [names[number] for _, number in samples] == ["woman", "man", "woman", "man"]
        assert all(shown.size == (8, 8) for shown, _ in samples)
        prompts = [line.strip().format(c="nurse") for line in lines.splitlines()]
        assert prompts == [template.replace("{}", "nurse") for template in TEMPLATES]

    def test_webdataset_reads_captions_as_clip_benchmark_does(self, tmp_path: Path, tar_bytes: Tar):
        import webdataset

        captions = ["one", "in\ntwo\x85lines", "  spaces "]
        fields = json.dumps({"caption": captions}).encode()
        (tmp_path / "a.tar").write_bytes(tar_bytes([("x.png", picture(1)), ("x.json", fields)]))
        written = write_clip_benchmark_set(opened(tmp_path), str(tmp_path / "out"), None)
        assert (written.images, written.left_out) == (1, {})
        assert (tmp_path / "out" / "dataset_type.txt").read_text() == "retrieval\n"
        data = webdataset.WebDataset(f"{tmp_path}/out/test/0.tar", shardshuffle=False).decode("pil")
        ((_, text),) = data.to_tuple("png", "txt")
        assert str.splitlines(text) == ["one", "in two lines", "spaces"]
        (image,) = read(opened(tmp_path / "out"))
        assert image.captions == ("one", "in two lines", "spaces")

    def test_pictures_without_a_caption_are_left_out_of_retrieval(
        self, folder: ImageSource, tmp_path: Path
    ):
        written = write_clip_benchmark_set(folder, str(tmp_path / "out"), None)
        assert written.images == 5 and written.left_out == {NO_CAPTION: 1, OTHER_FORMAT: 1}

    def test_the_same_pictures_give_the_same_bytes(self, folder: ImageSource, tmp_path: Path):
        for name in ("a", "b"):
            write_clip_benchmark_set(folder, str(tmp_path / name), GENDER, largest_shard=3)
        assert content(tmp_path / "a") == content(tmp_path / "b")
        with tarfile.open(tmp_path / "a" / "test" / "1.tar") as tar:
            assert tar.getnames() == ["s0000003.png", "s0000003.cls", "s0000003.json"]

    def test_what_was_killed_is_no_split_and_is_written_again(
        self, folder: ImageSource, tmp_path: Path
    ):
        out = tmp_path / "out"
        write_clip_benchmark_set(folder, str(out), GENDER, largest_shard=1)
        whole = content(out)
        (out / "test" / "nshards.txt").unlink()
        (out / "test" / "1.tar").write_bytes(b"half")
        assert splits_of(str(out)) == []
        write_clip_benchmark_set(folder, str(out), GENDER, largest_shard=1)
        assert content(out) == whole

    def test_splits_share_their_task(self, folder: ImageSource, tmp_path: Path):
        out = str(tmp_path / "out")
        write_clip_benchmark_set(folder, out, GENDER)
        with pytest.raises(InputError, match="has a split 'test' already"):
            write_clip_benchmark_set(folder, out, GENDER)
        with pytest.raises(InputError, match=r"split 'test' is of another task"):
            write_clip_benchmark_set(folder, out, None, split="train")
        other = GENDER.model_copy(update={"classes": ("man", "woman")})
        with pytest.raises(InputError, match=r"classnames.txt: split 'test' is of another task"):
            write_clip_benchmark_set(folder, out, other, split="train")
        write_clip_benchmark_set(folder, out, GENDER, split="train")
        assert splits_of(out) == ["test", "train"]

    def test_nothing_to_write(self, folder: ImageSource, tmp_path: Path):
        nobody = Classification(label="gender", classes=("nobody",), templates=("{}",))
        with pytest.raises(InputError, match=f"no picture can be written.*7 x {UNKNOWN_CLASS}"):
            write_clip_benchmark_set(folder, str(tmp_path / "out"), nobody)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["two\nlines", " space", ""])
    def test_names_that_are_no_line(self, folder: ImageSource, tmp_path: Path, name: str):
        task = Classification(label="gender", classes=("man", name), templates=("{}",))
        with pytest.raises(InputError, match=r"cannot be a line of classnames.txt"):
            write_clip_benchmark_set(folder, str(tmp_path / "out"), task)

    def test_tasks_that_ask_nothing(self):
        for classes, templates in (((), ("{}",)), (("a", "a"), ("{}",)), (("a",), ("{c}",))):
            with pytest.raises(ValidationError):
                Classification(label="x", classes=classes, templates=templates)


SIDES = st.text("ab {}c", max_size=5)


@given(SIDES, SIDES)
def test_templates_survive_both_ways(before: str, after: str):
    template = f"{before}{{}}{after}"
    assume(template.count("{}") == 1)
    assert _ours(_theirs(template)) == template
    filled = template.replace("{}", "nurse")
    assert _theirs(template).format(c="nurse") == filled

"""Embeddings of data sets: encoded once for each model and picture, whatever the labels say."""

import io
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.labelled_set import LabelledSet
from m4.errors import InputError
from pipelines.embedding_cache import PART, cached_texts, embedded_set, model_folder
from pipelines.encoded_sets import EncodedSet
from pipelines.image_sets import NO_ROW, ImageSetSettings, open_images
from pipelines.labelled_images import OTHER_LABELS, LabelledImage
from vision import images
from vision.embedder import Embedder, Preprocessing
from vision.images import ImageFormat, decode_all
from vision.model import ModelSettings, build_model, tokenizer

Tar = Callable[..., bytes]


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 99)).save(stream, "PNG")
    return stream.getvalue()


@dataclass
class Counting:
    """Embeds a picture as its colour, a text as its length, and says what it has embedded.

    Black is what fills a batch, and is not noted. As a real model's, the last bit of an embedding
    depends on how large its batch is.
    """

    name: str = "counting/1"
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(ImageFormat(8)))
    device: str = "cpu"
    size: int = 8
    batch_size: int = 4
    killed_after: int | None = None
    pictures: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        if self.killed_after is not None and len(self.pictures) >= self.killed_after:
            raise KeyboardInterrupt
        colours = np.array([each.getpixel((0, 0)) for each in pictures], dtype=np.float32)
        self.pictures += [int(red + 256 * green) for red, green, blue in colours if blue]
        colours = colours.reshape(len(pictures), 3)
        last = len(pictures) % self.batch_size
        colours[len(pictures) - last :] *= 1 + 2**-20
        return colours

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        rows = [[len(text), 1, 0] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 3)


def files(cache: Path) -> dict[str, bytes]:
    found = (path for path in sorted(cache.rglob("*")) if path.is_file())
    return {str(path.relative_to(cache)): path.read_bytes() for path in found}


def same(one: EncodedSet, other: EncodedSet) -> bool:
    facts = [
        (each.name, each.keys, each.digest, each.captions, each.failures, each.left_out)
        for each in (one, other)
    ]
    return (
        facts[0] == facts[1]
        and np.array_equal(one.embeddings, other.embeddings)
        and one.labels.equals(other.labels)
    )


@pytest.fixture
def folder(tmp_path: Path) -> ImageSetSettings:
    """700 pictures in a folder with labels: three parts."""
    pictures, rows = tmp_path / "pictures", ["file,gender,number"]
    pictures.mkdir()
    for number in range(700):
        (pictures / f"{number}.png").write_bytes(png(number))
        rows.append(f"{number}.png,{'woman' if number % 3 else 'man'},{number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return ImageSetSettings(images=str(pictures), labels=str(tmp_path / "labels.csv"))


@pytest.fixture
def tars(tmp_path: Path, tar_bytes: Tar) -> ImageSetSettings:
    """Three tars of ten pictures with captions."""
    (tmp_path / "tars").mkdir()
    for shard in range(3):
        members = []
        for number in range(10 * shard, 10 * shard + 10):
            said = json.dumps({"sex": "f" if number % 2 else "m"}).encode()
            members += [(f"{number}.png", png(number)), (f"{number}.json", said)]
            members += [(f"{number}.txt", f"number {number}".encode())]
        (tmp_path / "tars" / f"{shard}.tar").write_bytes(tar_bytes(members))
    return ImageSetSettings(images=str(tmp_path / "tars"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    """A damaged entry warns; nothing else may."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*damaged")
        yield


class TestEncodedOnce:
    def test_a_folder(self, folder: ImageSetSettings, cache: Path):
        first, second, seen = Counting(), Counting(), []
        found = embedded_set(folder, first, str(cache), progress=lambda *at: seen.append(at))
        assert first.pictures == list(range(700))
        assert seen[-1] == (3, 3) and sorted(seen) == seen
        assert found.keys == tuple(f"{number}.png" for number in range(700))
        assert found.embeddings.shape == (700, 3) and found.embeddings.dtype == np.float32
        assert found.embeddings[:, 0].tolist() == [number % 256 for number in range(700)]
        assert found.labels["number"].to_list() == [str(number) for number in range(700)]
        assert found.labels["gender"].value_counts(sort=True)["count"].to_list() == [466, 234]
        assert found.captions is None and found.failures == () and found.left_out == {}
        before = files(cache)
        again = embedded_set(folder, second, str(cache))
        assert second.pictures == [] and same(found, again) and files(cache) == before
        assert same(found, embedded_set(folder, Counting(), None))

    def test_tars(self, tars: ImageSetSettings, cache: Path):
        found = embedded_set(tars, Counting(), str(cache))
        assert found.keys[9:11] == ("0/9", "1/10") and found.captions[12] == ("number 12",)
        again = Counting()
        assert same(found, embedded_set(tars, again, str(cache))) and again.pictures == []

    def test_a_changed_picture_alone_is_encoded(self, folder: ImageSetSettings, cache: Path):
        found = embedded_set(folder, Counting(), str(cache))
        (Path(folder.images) / f"{PART + 5}.png").write_bytes(png(9999))
        again = Counting()
        other = embedded_set(folder, again, str(cache))
        assert again.pictures == [9999]
        assert other.digest != found.digest and other.keys == found.keys
        differs = (other.embeddings != found.embeddings).any(axis=1)
        assert np.flatnonzero(differs).tolist() == [PART + 5]

    def test_rows_may_be_chosen_removed_and_shuffled(self, folder: ImageSetSettings, cache: Path):
        found = embedded_set(folder, Counting(), str(cache))
        table = Path(str(folder.labels))
        header, *rows = table.read_text().splitlines()
        order = np.random.default_rng(3).permutation(len(rows))[:-1]
        table.write_text("\n".join([header, *(rows[row] for row in order)]))
        again = Counting()
        other = embedded_set(folder, again, str(cache))
        assert other.keys == tuple(found.keys[row] for row in order)
        np.testing.assert_array_equal(other.embeddings, found.embeddings[order])
        chosen = folder.model_copy(update={"where": {"gender": "man"}})
        men = embedded_set(chosen, again, str(cache))
        assert men.left_out.keys() == {OTHER_LABELS, NO_ROW} and again.pictures == []
        assert same(men, embedded_set(chosen, Counting()))  # as if it had been encoded alone

    def test_another_folder_and_another_name(self, folder: ImageSetSettings, cache: Path):
        found = embedded_set(folder, Counting(), str(cache))
        moved = Path(folder.images).rename(Path(folder.images).with_name("moved"))
        (moved / "0.png").rename(moved / "first.png")
        table = Path(str(folder.labels))
        table.write_text(table.read_text().replace("\n0.png", "\nfirst.png"))
        again = Counting()
        other = embedded_set(folder.model_copy(update={"images": str(moved)}), again, str(cache))
        assert again.pictures == [] and other.keys[0] == "first.png"
        np.testing.assert_array_equal(other.embeddings, found.embeddings)

    def test_the_same_picture_is_encoded_once(self, folder: ImageSetSettings, cache: Path):
        for number in (5, 6, 600):
            (Path(folder.images) / f"{number}.png").write_bytes(png(4))
        embedder = Counting()
        found = embedded_set(folder, embedder, str(cache))
        assert embedder.pictures == [n for n in range(700) if n not in (5, 6, 600)]
        assert len(found.keys) == 700
        np.testing.assert_array_equal(found.embeddings[[5, 6, 600]], found.embeddings[[4, 4, 4]])

    def test_what_the_cache_has_seen_does_not_show(self, folder: ImageSetSettings, cache: Path):
        for gender in ("man", "woman"):
            chosen = folder.model_copy(update={"where": {"gender": gender}})
            embedded_set(chosen, Counting(), str(cache))
        again = Counting()
        found = embedded_set(folder, again, str(cache))
        assert again.pictures == [] and same(found, embedded_set(folder, Counting()))

    def test_a_set_is_mapped_and_its_parts_are_left_alone(
        self, folder: ImageSetSettings, cache: Path
    ):
        found = embedded_set(folder, Counting(), str(cache))
        assert isinstance(found.embeddings, np.memmap) and found.embeddings.mode == "r"
        for part in cache.rglob("pictures/*.npy"):
            part.write_bytes(bytes(part.stat().st_size))  # nobody reads them
        assert same(found, embedded_set(folder, Counting(), str(cache)))

    def test_nothing_is_decoded_again(
        self, tars: ImageSetSettings, cache: Path, tar_bytes: Tar, monkeypatch: pytest.MonkeyPatch
    ):
        (Path(tars.images) / "3.tar").write_bytes(tar_bytes([("x.png", b"no picture")]))
        found = embedded_set(tars, Counting(), str(cache), max_failures=0.1)
        monkeypatch.setattr(images, "decode_all", None)
        assert same(found, embedded_set(tars, Counting(), str(cache), max_failures=0.1))
        assert [each.key for each in found.failures] == ["3/x"]

    def test_a_changed_table_encodes_nothing(self, folder: ImageSetSettings, cache: Path):
        found = embedded_set(folder, Counting(), str(cache))
        table = Path(str(folder.labels))
        table.write_text(table.read_text().replace("gender", "sex").replace(",man,", ",boy,"))
        again = Counting()
        other = embedded_set(folder, again, str(cache))
        assert again.pictures == [] and other.digest != found.digest
        np.testing.assert_array_equal(other.embeddings, found.embeddings)
        assert other.labels.columns == ["number", "sex"] and other.labels["sex"][0] == "boy"

    def test_changed_labels_in_a_tar_encode_nothing(
        self, tars: ImageSetSettings, cache: Path, tar_bytes: Tar
    ):
        embedded_set(tars, Counting(), str(cache))
        members = [(f"{number}.png", png(number)) for number in range(10)]
        (Path(tars.images) / "0.tar").write_bytes(tar_bytes(members))
        again = Counting()
        found = embedded_set(tars, again, str(cache))
        assert again.pictures == []
        assert found.labels["sex"].to_list() == [None] * 10 + ["m", "f"] * 10
        assert found.captions is not None and found.captions[:11] == ((),) * 10 + (("number 10",),)

    def test_only_what_is_asked_for_is_encoded(self, folder: ImageSetSettings, cache: Path):
        chosen = folder.model_copy(update={"where": {"gender": "man"}, "columns": {"n": "number"}})
        embedder = Counting()
        found = embedded_set(chosen, embedder, str(cache))
        assert embedder.pictures == list(range(0, 700, 3))
        assert found.left_out == {OTHER_LABELS: 466} and found.labels.columns == ["gender", "n"]

    @pytest.mark.parametrize(
        "other",
        [
            {"name": "counting/2"},
            {"device": "cuda"},
            {"preprocessing": Preprocessing(ImageFormat(8), "squash")},
            {"preprocessing": Preprocessing(ImageFormat(8, (0.5, 0.5, 0.5)))},
        ],
    )
    def test_another_model_is_another_cache(
        self, tars: ImageSetSettings, cache: Path, other: dict[str, Any]
    ):
        embedded_set(tars, Counting(), str(cache))
        again = Counting(**other)
        embedded_set(tars, again, str(cache))
        assert len(again.pictures) == 30 and len(list(cache.iterdir())) == 2
        third = Counting(device="cpu" if again.device == "cpu" else "cuda:1", name=again.name)
        third.preprocessing = again.preprocessing
        embedded_set(tars, third, str(cache))
        assert third.pictures == []  # which of the GPUs does not matter

    def test_the_digest_is_of_pictures_and_labels(self, tars: ImageSetSettings):
        found = embedded_set(tars, Counting())
        assert embedded_set(tars, Counting(name="other")).digest == found.digest
        renamed = tars.model_copy(update={"columns": {"gender": "sex"}})
        assert embedded_set(renamed, Counting()).digest != found.digest


class TestDamage:
    def spoil(self, cache: Path, kind: str) -> None:
        array = next(cache.rglob("pictures/*.npy"))
        marker, content = array.with_suffix(".json"), array.read_bytes()
        if kind == "cut":
            array.write_bytes(content[:-4])
        elif kind == "changed":
            array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif kind == "gone":
            array.unlink()
        elif kind == "half a marker":
            marker.write_bytes(marker.read_bytes()[:-9])
        elif kind == "another marker":
            marker.write_text('{"rows": 1}')

    @pytest.mark.parametrize("kind", ["cut", "changed", "gone", "half a marker", "another marker"])
    def test_a_damaged_part_is_made_again_loudly(
        self, folder: ImageSetSettings, cache: Path, kind: str
    ):
        found = embedded_set(folder, Counting(), str(cache))
        whole = files(cache)
        self.spoil(cache, kind)
        next(cache.rglob("sets/*")).unlink()
        again = Counting()
        with pytest.warns(UserWarning, match=r"damaged, made again: "):
            assert same(found, embedded_set(folder, again, str(cache)))
        assert len(again.pictures) in (PART, 700 - 2 * PART) and files(cache) == whole
        assert same(found, embedded_set(folder, again, str(cache)))  # and says no more

    def test_a_damaged_marker_does_not_stay(self, folder: ImageSetSettings, cache: Path):
        embedded_set(folder, Counting(), str(cache))
        self.spoil(cache, "half a marker")
        chosen = folder.model_copy(update={"where": {"gender": "man"}})  # other parts
        with pytest.warns(UserWarning, match=r"damaged, made again: "):
            embedded_set(chosen, Counting(), str(cache))
        assert same(embedded_set(chosen, Counting(), str(cache)), embedded_set(chosen, Counting()))

    @pytest.mark.parametrize("kind", ["cut", "empty", "other rows", "other numbers", "no array"])
    def test_a_damaged_set_is_copied_again(self, tars: ImageSetSettings, cache: Path, kind: str):
        found = embedded_set(tars, Counting(), str(cache))
        whole, path = files(cache), next(cache.rglob("sets/*.npy"))
        path.unlink()  # what is mapped stays
        if kind == "other rows":
            np.save(path, np.zeros((29, 3), dtype=np.float32))
        elif kind == "other numbers":
            np.save(path, np.zeros((30, 3)))
        else:
            content = whole[str(path.relative_to(cache))]
            path.write_bytes({"cut": content[:-4], "empty": b"", "no array": b"PK"}[kind])
        again = Counting()
        with pytest.warns(UserWarning, match=r"sets.*npy: damaged, made again: "):
            assert same(found, embedded_set(tars, again, str(cache)))
        assert again.pictures == [] and files(cache) == whole

    def test_an_array_without_its_marker_is_made_again(self, tars: ImageSetSettings, cache: Path):
        embedded_set(tars, Counting(), str(cache))
        whole = files(cache)
        next(cache.rglob("*.json")).unlink()
        again = Counting()
        embedded_set(tars, again, str(cache))
        assert len(again.pictures) == 30 and files(cache) == whole

    @pytest.mark.parametrize("killed_after", [0, PART, 2 * PART])
    def test_a_run_that_was_killed_goes_on(
        self, folder: ImageSetSettings, cache: Path, tmp_path: Path, killed_after: int
    ):
        killed = Counting(killed_after=killed_after)
        with pytest.raises(KeyboardInterrupt):
            embedded_set(folder, killed, str(cache))
        again = Counting()
        found = embedded_set(folder, again, str(cache))
        assert killed.pictures + again.pictures == list(range(700))
        assert len(killed.pictures) == killed_after
        whole = embedded_set(folder, Counting(), str(tmp_path / "whole"))
        assert same(found, whole) and files(cache) == files(tmp_path / "whole")

    def test_two_at_once(self, folder: ImageSetSettings, cache: Path, tmp_path: Path):
        found: list[EncodedSet] = []
        threads = [
            threading.Thread(
                target=lambda: found.append(embedded_set(folder, Counting(), str(cache)))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = embedded_set(folder, Counting(), str(tmp_path / "whole"))
        assert len(found) == 4 and all(same(each, whole) for each in found)
        again = Counting()
        assert same(embedded_set(folder, again, str(cache)), whole) and again.pictures == []


class TestFailures:
    def test_pictures_that_cannot_be_decoded(self, folder: ImageSetSettings, cache: Path):
        for number in (3, 300, 301):
            (Path(folder.images) / f"{number}.png").write_bytes(b"no picture")
        (Path(folder.images) / "extra.png").write_bytes(png(1))
        found = embedded_set(folder, Counting(), str(cache))
        assert [each.key for each in found.failures] == ["3.png", "300.png", "301.png"]
        assert all("image cannot be decoded" in each.reason for each in found.failures)
        assert len(found.keys) == len(found.embeddings) == len(found.labels) == 697
        assert found.labels["number"].to_list()[299:301] == ["302", "303"]
        assert found.left_out == {NO_ROW: 1}
        again = Counting()
        assert same(found, embedded_set(folder, again, str(cache))) and again.pictures == []
        with pytest.raises(InputError, match=r"3 of 700 images cannot be used \(3 x image cannot"):
            embedded_set(folder, Counting(), str(cache), max_failures=0.004)

    def test_a_damaged_tar_is_not_one_picture(self, tars: ImageSetSettings, cache: Path):
        path = Path(tars.images) / "1.tar"
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(InputError, match=r"1 of 3 shards .* read to their end \(1 x truncated"):
            embedded_set(tars, Counting(), str(cache), max_failures=0.1)
        found = embedded_set(tars, Counting(), str(cache), max_failures=0.4)
        assert 20 <= len(found.keys) < 30 and found.failures

    def test_nothing_is_left(self, tars: ImageSetSettings, tmp_path: Path, tar_bytes: Tar):
        nobody = tars.model_copy(update={"where": {"sex": "x"}})
        with pytest.raises(InputError, match=f"no pictures are left: 30 x {OTHER_LABELS}$"):
            embedded_set(nobody, Counting())
        (tmp_path / "b.tar").write_bytes(tar_bytes([("1.png", b"no picture")]))
        bad = ImageSetSettings(images=str(tmp_path / "b.tar"))
        with pytest.raises(InputError, match=r"1 of 1 images cannot be used"):
            embedded_set(bad, Counting())
        with pytest.raises(InputError, match="no pictures are left"):
            embedded_set(bad, Counting(), max_failures=1)

    def test_a_label_that_nothing_has(self, tars: ImageSetSettings):
        renamed = tars.model_copy(update={"columns": {"gender": "Male"}})
        with pytest.raises(InputError, match=r"no image has a label 'Male' to be 'gender'"):
            embedded_set(renamed, Counting())
        misspelt = tars.model_copy(update={"where": {"gendr": "m"}})
        with pytest.raises(InputError, match=r"where: no image has a label 'gendr'; it has sex$"):
            embedded_set(misspelt, Counting())

    def test_a_label_that_is_not_chosen_by_its_own_name(self, tars: ImageSetSettings):
        """`sex` is to be `n`, of which there is none; no sample's own `sex` is lent."""
        swapped = tars.model_copy(update={"columns": {"sex": "n"}})
        with pytest.raises(InputError, match=r"no image has a label 'n' to be 'sex'"):
            embedded_set(swapped, Counting())

    def test_values_are_replaced(self, tars: ImageSetSettings):
        replaced = tars.model_copy(update={"values": {"sex.f": "woman", "sex.m": ""}})
        found = embedded_set(replaced, Counting())
        assert found.labels["sex"].to_list() == [None, "woman"] * 15
        wrong = tars.model_copy(update={"values": {"sex.x": "woman"}})
        with pytest.raises(InputError, match=r"values: no image has 'sex\.x'"):
            embedded_set(wrong, Counting())


class TestTexts:
    def test_the_same_texts_are_encoded_once(self, cache: Path):
        first, second = Counting(), Counting()
        texts = ["a nurse", "a doctor", "a nurse"]
        found = cached_texts(first, str(cache))(texts)
        np.testing.assert_array_equal(found, cached_texts(second, str(cache))(texts))
        np.testing.assert_array_equal(found, Counting().encode_texts(texts))
        assert first.texts == texts and second.texts == []
        cached_texts(second, str(cache))(texts[:2])
        assert second.texts == texts[:2]
        third = Counting(name="other")
        cached_texts(third, str(cache))(texts)
        assert third.texts == texts

    def test_without_a_cache_it_is_the_model(self):
        embedder = Counting()
        assert cached_texts(embedder, None)(["a"]).tolist() == [[1, 1, 0]]

    def test_damaged_texts_are_encoded_again(self, cache: Path):
        cached_texts(Counting(), str(cache))(["a"])
        next(cache.rglob("*.npy")).write_bytes(b"")
        with pytest.warns(UserWarning, match="damaged"):
            found = cached_texts(Counting(), str(cache))(["a"])
        assert found.tolist() == [[1, 1, 0]]

    def test_no_texts(self, cache: Path):
        encode = cached_texts(Counting(), str(cache))
        assert encode([]).shape == encode([]).shape == (0, 3)


def test_what_comes_out_is_what_evaluation_takes(tars: ImageSetSettings):
    found = embedded_set(tars, Counting())
    taken = LabelledSet(
        found.name,
        found.digest,
        found.keys,
        found.embeddings,
        found.labels,
        found.captions,
        found.classes,
        found.templates,
    )
    assert taken.where({"sex": "f"}).keys[0] == "0/1" and len(taken) == 30


def test_pictures_without_any_labels(tmp_path: Path, tar_bytes: Tar):
    (tmp_path / "a.tar").write_bytes(tar_bytes([("1.png", png(1)), ("2.png", png(2))]))
    found = embedded_set(ImageSetSettings(images=str(tmp_path / "a.tar")), Counting())
    assert found.labels.shape == (2, 0) and found.captions is None


def test_on_remote_storage(tars: ImageSetSettings, cache: Path, shelf: Callable):
    remote = tars.model_copy(update={"images": shelf(Path(tars.images))})
    found = embedded_set(remote, Counting(), shelf(cache))
    again = Counting()
    assert same(found, embedded_set(remote, again, shelf(cache))) and again.pictures == []
    assert same(found, embedded_set(tars, again, str(cache))) and again.pictures == []


@pytest.fixture(scope="module")
def real(small_model: ModelSettings) -> Embedder:
    import torch

    torch.manual_seed(0)
    model = build_model(small_model, "clip").eval()
    return Embedder(model, tokenizer(small_model), Preprocessing.of(model), "small/random")


def test_a_real_model_on_real_pictures(real: Embedder, shared_data: Path, cache: Path):
    """What is cached is what the model says; its entries are mapped, not read."""
    settings = ImageSetSettings(
        images=str(shared_data / "emoji" / "twemoji-00007.tar"), where={"person": "true"}
    )
    found = embedded_set(settings, real, str(cache))
    again = embedded_set(settings, real, str(cache))
    assert same(found, again) and len(found.keys) > 5
    (shard,) = open_images(settings).shards
    contents = [each.image for each in shard if isinstance(each, LabelledImage)]
    expected = real.embed(decode_all(contents, real.size))
    np.testing.assert_array_equal(found.embeddings, expected)
    assert isinstance(again.embeddings, np.memmap) and Path(model_folder(str(cache), real)).is_dir()


@pytest.mark.parametrize("count", [1, 2, 7, 63, 100])
def test_an_embedding_does_not_depend_on_what_is_encoded_with_it(
    real: Embedder, tmp_path: Path, tar_bytes: Tar, cache: Path, count: int
):
    """Of a real model; without blank pictures in the last batch, the last bit differs."""
    members = [(f"{number}.png", png(number * 97)) for number in range(100)]
    (tmp_path / "all.tar").write_bytes(tar_bytes(members))
    (tmp_path / "some.tar").write_bytes(tar_bytes(members[100 - count :][::-1]))
    every = embedded_set(ImageSetSettings(images=str(tmp_path / "all.tar")), real)
    some = ImageSetSettings(images=str(tmp_path / "some.tar"))
    found = embedded_set(some, real, str(cache)).embeddings
    np.testing.assert_array_equal(found, every.embeddings[100 - count :][::-1])

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.receipts import Use
from pipelines.shards import SampleSpan, ShardRef
from training.loader import (
    Batch,
    Decoded,
    Loader,
    LoaderSettings,
    Position,
    _Item,
    distinct_batches,
)
from training.samples import SpanReader
from vision import images
from vision.images import ImageFormat

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")


def tokenize(captions: list[str]) -> torch.Tensor:
    """Ids of the letters: enough to tell captions apart."""
    rows = [[ord(letter) for letter in caption.ljust(32)[:32]] for caption in captions]
    return torch.tensor(rows, dtype=torch.int64)


def loader(manifest: str, start: Position | None = None, **settings: Any) -> Loader:
    given = {"batch_size": 8, "shuffle_buffer": 16, **settings}
    return Loader(LoaderSettings(manifest=manifest, **given), tokenize, ImageFormat(32), start)


def epoch_of(batches: Loader, epoch: int = 0) -> list[Batch]:
    """The batches of one epoch."""
    found = []
    for batch in batches:
        if batch.after.epoch > epoch:
            return found
        if batch.after.epoch == epoch:
            found.append(batch)
    raise AssertionError("the stream ended")


def same(one: Batch, other: Batch) -> bool:
    return (
        one.uids == other.uids
        and one.uses == other.uses
        and one.unused == other.unused
        and one.after == other.after
        and one.failures == other.failures
        and torch.equal(one.images, other.images)
        and torch.equal(one.tokens, other.tokens)
    )


def three_copies(number: int) -> int:
    return number % 4  # 0 to 3; 90 of 60 pictures


@pytest.fixture(scope="module")
def copied(pictures, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pictures.manifest(tmp_path_factory.mktemp("copied"), three_copies)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_holds_every_sample_as_often_as_its_copies_say(
    pictures, copied: str, workers: int
):
    for epoch in (0, 1):
        batches = epoch_of(loader(copied, workers=workers), epoch)
        counts = Counter(uid for batch in batches for uid in batch.uids)
        wanted = {uid: three_copies(number) for number, uid in enumerate(pictures.uids)}
        assert counts == Counter({uid: copies for uid, copies in wanted.items() if copies})
        assert all(len(set(batch.uids)) == len(batch.uids) for batch in batches)
        assert not any(batch.failures for batch in batches)


def test_images_and_captions_belong_together(pictures, copied: str):
    captions = {
        sample.uid: sample.caption for part in pictures.shards for sample in pictures.samples(part)
    }
    for batch in epoch_of(loader(copied)):
        assert batch.images.shape == (len(batch.uids), 3, 32, 32)
        assert batch.images.dtype == torch.float32 and batch.tokens.dtype == torch.int64
        expected = tokenize([captions[uid] for uid in batch.uids])
        assert torch.equal(batch.tokens, expected)
        # The corner shows the ground that the caption names.
        for uid, picture in zip(batch.uids, batch.images, strict=True):
            red = picture[0, 1, 1] * images.OPENAI_STD[0] + images.OPENAI_MEAN[0]
            bright = captions[uid].split()[-1] in ("red", "yellow", "white", "orange")
            dark = captions[uid].split()[-1] in ("blue", "green", "black")
            assert not (bright and red < 0.8) and not (dark and red > 0.2)


def test_copies_are_a_round_apart(copied: str):
    order = [uid for batch in epoch_of(loader(copied, batch_size=1)) for uid in batch.uids]
    once = [number for number in range(60) if three_copies(number) > 0]
    assert len(set(order[: len(once)])) == len(once)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_is_a_matter_of_seed_and_epoch(copied: str, workers: int):
    def first(seed: int, epoch: int) -> list[Batch]:
        start = Position(epoch)
        return list(islice(loader(copied, start, seed=seed, workers=workers, crop=0.7), 5))

    once, again = first(1, 2), first(1, 2)
    assert all(same(a, b) for a, b in zip(once, again, strict=True))
    assert once[0].uids != first(2, 2)[0].uids
    assert once[0].uids != first(1, 3)[0].uids


@pytest.mark.parametrize(("workers", "crop"), [(0, 1.0), (0, 0.6), (2, 0.6), (3, 1.0)])
def test_a_stream_goes_on_from_any_place(copied: str, workers: int, crop: float):
    settings = {"workers": workers, "crop": crop, "batch_size": 7}
    whole = list(islice(loader(copied, **settings), 32))
    assert whole[-1].after.epoch >= 1
    for place in range(0, 30, 1 if workers == 0 else 5):
        resumed = islice(loader(copied, whole[place].after, **settings), 2)
        assert all(same(a, b) for a, b in zip(resumed, whole[place + 1 : place + 3], strict=True))


def test_workers_that_end_at_different_times(tmp_path: Path, pictures):
    # All copies of the first shard: one worker has three times the batches of the others.
    folder = pictures.manifest(tmp_path, lambda number: 6 if number < 20 else 1)
    whole = epoch_of(loader(folder, workers=3, batch_size=4))
    assert len(whole) == 40
    for place in range(10, 40, 6):
        after = whole[place].after
        found = next(iter(loader(folder, after, workers=3, batch_size=4)))
        assert same(found, whole[place + 1])


def test_nothing_passed_over_is_read_or_decoded(copied: str, monkeypatch: pytest.MonkeyPatch):
    whole = epoch_of(loader(copied, shuffle_buffer=1))
    read = []
    plain = SpanReader.read
    decoded = Counter()
    decode = images.decode

    def noted(self: SpanReader, shard: ShardRef, span: SampleSpan) -> bytes:
        read.append(span)
        return plain(self, shard, span)

    def counted(content: bytes, size: int) -> Any:
        decoded["images"] += 1
        return decode(content, size)

    monkeypatch.setattr(SpanReader, "read", noted)
    monkeypatch.setattr(images, "decode", counted)
    stream = iter(loader(copied, whole[8].after, shuffle_buffer=1))
    assert same(next(stream), whole[9])
    assert len(read) <= 8 + 1 and decoded["images"] == 8


def test_dropped_samples_are_never_read(tmp_path: Path, draw_pictures: Callable, pictures):
    mine = draw_pictures(tmp_path / "tars")
    kept = set(mine.uids[::2])
    folder = mine.manifest(tmp_path / "manifest", lambda number: 1 - number % 2)
    for shard in mine.shards:  # wipe out every dropped sample
        with open(shard.path, "r+b") as tar:
            for sample in mine.samples(shard):
                if sample.uid not in kept:
                    tar.seek(sample.span.offset)
                    tar.write(b"\0" * sample.span.length)
    batches = epoch_of(loader(folder, batch_size=5))
    assert {uid for batch in batches for uid in batch.uids} == kept
    assert not any(batch.failures for batch in batches)


def test_bad_samples_are_set_aside_and_named(
    tmp_path: Path, jpeg: Callable[..., bytes], tar_of: Callable[..., ShardRef], draw_pictures
):
    mine = draw_pictures(tmp_path / "tars", shards=2)
    folder = mine.manifest(tmp_path / "manifest")
    first, second = mine.shards
    victim = mine.samples(first)[3]
    with open(first.path, "r+b") as tar:
        tar.seek(victim.span.offset + 512)
        tar.write(b"\0" * 200)
    Path(second.path).unlink()
    for _ in range(2):  # and the same in every run
        failures = [failure for batch in epoch_of(loader(folder)) for failure in batch.failures]
        reasons = Counter((failure.shard, failure.reason) for failure in failures)
        assert reasons == {
            ("00000.tar", "image cannot be decoded: UnidentifiedImageError"): 1,
            ("00001.tar", "unreadable shard: No such file or directory"): 20,
        }
        assert victim.key in {failure.key for failure in failures}


def test_shards_written_anew_yield_failures_not_wrong_samples(
    tmp_path: Path, draw_pictures: Callable
):
    mine = draw_pictures(tmp_path / "tars", shards=1)
    folder = mine.manifest(tmp_path / "manifest")
    path = Path(mine.shards[0].path)
    content = path.read_bytes()
    spans = [sample.span for sample in mine.samples(mine.shards[0])]
    parts = [content[span.offset : span.offset + span.length] for span in spans]
    path.write_bytes(b"".join(reversed(parts)).ljust(len(content), b"\0"))  # of the same size
    batches = epoch_of(loader(folder))
    assert not any(batch.uids for batch in batches)
    assert sum(len(batch.failures) for batch in batches) == 20
    path.write_bytes(content + b"\0" * 512)
    reasons = {failure.reason for batch in epoch_of(loader(folder)) for failure in batch.failures}
    assert reasons == {"the shard has changed since its table was made"}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_say_which_samples_they_hold_and_which_were_set_aside(
    tmp_path: Path, draw_pictures: Callable, workers: int
):
    mine = draw_pictures(tmp_path / "tars", shards=2)
    folder = mine.manifest(tmp_path / "manifest", lambda number: 1, lambda number: number / 64)
    Path(mine.shards[1].path).unlink()
    expected = {
        sample.uid: Use(shard.stem, sample.span.offset, sample.key, number / 64)
        for number, (shard, sample) in enumerate(
            (shard, sample) for shard in mine.shards[:1] for sample in mine.samples(shard)
        )
    }
    used = {}
    for batch in epoch_of(loader(folder, workers=workers)):
        used |= dict(zip(batch.uids, batch.uses, strict=True))
        assert [use.key for use in batch.unused] == [failure.key for failure in batch.failures]
        assert {use.stem for use in batch.unused} <= {"00001"}
    assert used == expected


@pytest.mark.parametrize("crop", [1.0, 0.7])
def test_the_cache_changes_nothing(copied: str, crop: float):
    cached = iter(loader(copied, cache_images=True, crop=crop))
    plain = iter(loader(copied, crop=crop))
    for _ in range(25):  # into the second epoch
        assert same(next(cached), next(plain))


def test_loaders_of_one_process_decode_each_sample_once(
    copied: str, monkeypatch: pytest.MonkeyPatch
):
    settings = LoaderSettings(manifest=copied, batch_size=8, shuffle_buffer=16, cache_images=True)
    shared: Decoded = {}
    first = Loader(settings, tokenize, ImageFormat(32), decoded=shared)
    alone = epoch_of(first)

    def refuse(*_: Any) -> None:
        raise AssertionError("decoded twice")

    monkeypatch.setattr(images, "decode", refuse)
    again = epoch_of(Loader(settings, tokenize, ImageFormat(32), decoded=shared))
    assert all(same(one, other) for one, other in zip(alone, again, strict=True))


def test_the_cache_spares_reading(copied: str, monkeypatch: pytest.MonkeyPatch):
    stream = iter(loader(copied, cache_images=True))
    while next(stream).after.epoch == 0:
        pass
    monkeypatch.setattr(SpanReader, "read", lambda *_: pytest.fail("read again"))
    for batch in islice(stream, 8):
        assert batch.uids


def test_crops_do_not_depend_on_the_number_of_workers(copied: str):
    def pictures_of(workers: int) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for batch in epoch_of(loader(copied, workers=workers, crop=0.5)):
            for uid, picture in zip(batch.uids, batch.images, strict=True):
                found.setdefault(uid, []).append(float(picture.double().sum()))
        return {uid: sorted(sums) for uid, sums in found.items()}

    alone = pictures_of(0)
    assert alone == pictures_of(2)
    # Two copies of a sample are cropped differently.
    assert any(len(set(sums)) > 1 for sums in alone.values())


def test_redrawn_epochs_have_other_copies(tmp_path: Path, pictures):
    folder = pictures.manifest(tmp_path, weight=lambda number: 0.75)
    stream = loader(folder, redraw=True)
    epochs = [{uid for batch in epoch_of(stream, epoch) for uid in batch.uids} for epoch in (0, 1)]
    assert epochs[0] != epochs[1]
    assert all(30 <= len(uids) <= 58 for uids in epochs)
    rows = [
        [stream.manifest.rows(part, epoch) for part in stream.manifest.shards] for epoch in (0, 1)
    ]
    drawn = [sum(int(each.copies.sum()) for each in of_epoch) for of_epoch in rows]
    assert drawn == [len(uids) for uids in epochs]


def test_redraw_needs_weights(copied: str):
    with pytest.raises(InputError, match="run apply with weights"):
        loader(copied, redraw=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_manifest_that_breaks_on_the_way(tmp_path: Path, pictures, workers: int):
    folder = pictures.manifest(tmp_path)
    stream = loader(folder, workers=workers)
    stream.manifest._kept.clear()
    pictures.manifest(tmp_path, lambda number: 0)
    with pytest.raises(InputError, match="epoch 0 has no batch"):
        next(iter(stream))


def test_ranks_share_the_shards(pictures, copied: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(
            {uid for batch in epoch_of(loader(copied, batch_size=4)) for uid in batch.uids}
        )
    wanted = {uid for number, uid in enumerate(pictures.uids) if three_copies(number)}
    assert set().union(*parts) == wanted
    assert sum(len(part) for part in parts) == len(wanted)


def test_short_batches_can_be_left_out(copied: str):
    kept = epoch_of(loader(copied, workers=2, drop_short=True))
    assert {len(batch.uids) for batch in kept} == {8}
    whole = epoch_of(loader(copied, workers=2))
    assert sum(len(batch.uids) for batch in whole) == 90


def test_settings_that_cannot_work(copied: str):
    with pytest.raises(InputError, match="batch_size is 91, but an epoch has 90 samples"):
        loader(copied, batch_size=91)
    with pytest.raises(InputError, match="3 shards cannot be shared by 1 ranks with 4 workers"):
        loader(copied, workers=4)


def items(uids: list[int]) -> Iterator[_Item]:
    shard = ShardRef("0.tar", 0, 0.0)
    use = Use("0", 0, "key", None)
    return (_Item(str(uid), use, shard, SampleSpan(0, 0), 0) for uid in uids)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 5))
def test_batches_are_distinct_whole_and_full_where_they_can_be(uids: list[int], size: int):
    batches = [[item.uid for item in batch] for batch in distinct_batches(items(uids), size)]
    assert Counter(uid for batch in batches for uid in batch) == Counter(map(str, uids))
    assert all(len(set(batch)) == len(batch) <= size for batch in batches)
    short = [number for number, batch in enumerate(batches) if len(batch) < size]
    assert short == list(range(len(batches) - len(short), len(batches)))
    # A short batch is followed only by what it could not hold: doubles of its own samples.
    for number in short[:-1]:
        assert set(batches[number + 1]) <= set(batches[number])

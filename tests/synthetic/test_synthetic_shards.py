"""Shards: the same bytes however they are computed, readable by others, honest labels."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from synthetic import OCCUPATIONS, WorldSettings, draw_picture, plan_pictures, write_shards
from synthetic import shards as shards_module
from synthetic.world import GENDERS, LEISURE_SETTINGS

SMALL = WorldSettings(
    pictures=150, shards=4, picture_size=48, seed=3, off_duty=0.2, portraits_hidden=0.4
)

TRADES = [occupation.name for occupation in OCCUPATIONS]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_shards(tmp_path_factory.mktemp("world"), SMALL)


def members(paths: list[Path]) -> dict[str, bytes]:
    contents = {}
    for path in paths:
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                stream = archive.extractfile(member)
                assert stream is not None
                contents[member.name] = stream.read()
    return contents


def test_shards_are_numbered_and_share_the_pictures_evenly(written: list[Path]) -> None:
    assert [path.name for path in written] == ["00000.tar", "00001.tar", "00002.tar", "00003.tar"]
    assert [len(members([path])) // 3 for path in written] == [38, 38, 37, 37]


def test_members_come_in_order_of_key_and_of_kind(written: list[Path]) -> None:
    assert list(members(written)) == [
        f"{index:09d}.{kind}" for index in range(150) for kind in ("jpg", "txt", "json")
    ]


def test_members_carry_no_time_and_no_owner(written: list[Path]) -> None:
    with tarfile.open(written[0]) as archive:
        for member in archive.getmembers():
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname, member.mode) == ("", "", 0o644)
    # The magic of a USTAR header.
    assert written[0].read_bytes()[257:265] == b"ustar\x0000"


def test_bytes_do_not_depend_on_the_number_of_processes(
    written: list[Path], tmp_path: Path
) -> None:
    seen: list[int] = []
    again = write_shards(tmp_path / "again", SMALL, processes=2, progress=seen.append)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    assert seen == list(range(1, 151))


def test_writing_again_changes_no_byte(written: list[Path]) -> None:
    before = [path.read_bytes() for path in written]
    assert write_shards(written[0].parent, SMALL) == written
    assert [path.read_bytes() for path in written] == before


def test_pictures_are_independent_of_the_number_of_shards(
    written: list[Path], tmp_path: Path
) -> None:
    one = write_shards(tmp_path, SMALL.model_copy(update={"shards": 1}))
    assert members(one) == members(written)


def test_labels_and_captions_agree_with_the_plan(written: list[Path]) -> None:
    contents = members(written)
    for spec in plan_pictures(SMALL):
        label = json.loads(contents[f"{spec.key}.json"])
        name = f"m4-balance synthetic/3/True/{spec.index}"
        assert label == {
            "uid": hashlib.sha256(name.encode()).hexdigest()[:32],
            "perceived_gender": spec.gender if spec.gender_visible else None,
            "depicted_gender": spec.gender,
            "perceived_tone": spec.tone,
            "occupation": spec.occupation,
            "setting": spec.setting,
            "tool": spec.tool,
            "person": spec.person,
            "at_work": spec.at_work,
        }
        assert contents[f"{spec.key}.txt"].decode() == spec.caption


def test_labels_admit_what_is_not_seen(written: list[Path]) -> None:
    labels = [json.loads(c) for name, c in members(written).items() if name.endswith("json")]
    hidden = [x for x in labels if x["depicted_gender"] and not x["perceived_gender"]]
    # One in each occupation of those at work, 6 of the 15 portraits, and nobody off duty.
    assert sorted(x["occupation"] for x in hidden if x["at_work"]) == sorted(TRADES)
    assert [x["occupation"] for x in hidden if not x["at_work"]] == [None] * 6
    for label in labels:
        if not label["person"]:
            assert label["perceived_gender"] is label["depicted_gender"] is None
            assert label["perceived_tone"] is label["occupation"] is None


def test_labels_tell_the_occupation_off_duty_and_that_it_is_not_seen(written: list[Path]) -> None:
    labels = [json.loads(c) for name, c in members(written).items() if name.endswith("json")]
    off_duty = [x for x in labels if x["occupation"] and not x["at_work"]]
    assert Counter(x["occupation"] for x in off_duty) == dict.fromkeys(TRADES, 3)
    for label in off_duty:
        assert label["setting"] in LEISURE_SETTINGS and label["tool"] is None
        assert label["perceived_gender"] == label["depicted_gender"] in GENDERS


def test_pictures_are_the_drawn_ones_as_jpeg(written: list[Path]) -> None:
    contents = members(written)
    for spec in plan_pictures(SMALL)[:10]:
        buffer = io.BytesIO()
        draw_picture(spec, 48).save(buffer, "JPEG", quality=88)
        assert contents[f"{spec.key}.jpg"] == buffer.getvalue()
        with Image.open(io.BytesIO(contents[f"{spec.key}.jpg"])) as picture:
            assert (picture.format, picture.size) == ("JPEG", (48, 48))


def test_webdataset_reads_the_shards(written: list[Path]) -> None:
    dataset = webdataset.WebDataset([str(path) for path in written], shardshuffle=False)
    samples = list(dataset.decode("pil").to_tuple("__key__", "jpg", "txt", "json"))
    assert len(samples) == 150
    key, picture, caption, label = samples[7]
    spec = plan_pictures(SMALL)[7]
    assert (key, caption, label["occupation"]) == (spec.key, spec.caption, spec.occupation)
    assert picture.size == (48, 48)


def test_uids_are_unique_and_differ_between_worlds() -> None:
    worlds = [SMALL, SMALL.model_copy(update={"skewed": False}), WorldSettings(seed=4)]
    uids = {shards_module.sample_uid(world, index) for world in worlds for index in range(500)}
    assert len(uids) == 1500
    assert all(len(uid) == 32 and int(uid, 16) >= 0 for uid in uids)


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    seen: list[int] = []
    write_shards(tmp_path, SMALL, progress=seen.append)
    assert seen == list(range(1, 151))


def test_fewer_than_one_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="processes 0 is below 1"):
        write_shards(tmp_path, SMALL, processes=0)


def test_shards_of_another_world_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "00007.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"shards 4 does not account for 00007\.tar"):
        write_shards(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["00007.tar"]


def test_a_shard_cut_short_leaves_no_file_of_its_name(tmp_path: Path) -> None:
    def stop(finished: int) -> None:
        if finished == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, SMALL, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]

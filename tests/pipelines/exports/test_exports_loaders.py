"""Exports as their readers read them: open_clip, webdataset, datasets, MosaicML streaming."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from m4.errors import InputError
from pipelines.exports import Exported, ExportSettings, export
from pipelines.shards import ShardRef
from vision.torchvision_guard import ensure_torchvision

Sizes = dict[str, int]
Names = Counter[tuple[str, str]]


def names_of(samples: Iterable[dict[str, Any]]) -> Names:
    """How often each (shard, key) comes."""
    return Counter((Path(each["__url__"]).stem, each["__key__"]) for each in samples)


# open_clip


def resharded(folder: Path, sizes: Sizes) -> Path:
    folder.mkdir()
    for name in sizes:
        (folder / name).write_bytes(b"")
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return folder


def arguments(folder: Path | str) -> tuple[str, ...]:
    return export(ExportSettings(format="open-clip", shards=str(folder))).text


@pytest.fixture(scope="module")
def open_clip_train() -> Any:
    """Its parser and its data, which import torchvision."""
    ensure_torchvision()
    import open_clip_train.data
    import open_clip_train.params

    return open_clip_train


@pytest.mark.parametrize("count", [1, 2, 12, 101])
def test_open_clip_finds_all_shards_and_their_size(
    tmp_path: Path, open_clip_train: Any, count: int
) -> None:
    """With its own parser, its own expansion of braces, and its own count of samples."""
    sizes = {f"{i:08d}.tar": 100 + i for i in range(count)}
    folder = resharded(tmp_path / "new shards", sizes)
    line = shlex.join(arguments(folder))
    parsed = open_clip_train.params.parse_args([*shlex.split(line), "--siglip"])
    urls, weights = open_clip_train.data.expand_urls(parsed.train_data)
    assert urls == [str(folder / name) for name in sizes] and weights is None
    size, shards = open_clip_train.data.get_dataset_size(parsed.train_data)
    assert (parsed.train_num_samples, count) == (size, shards) == (sum(sizes.values()), count)
    assert parsed.dataset_type == "webdataset"
    assert not parsed.dataset_resampled


def test_factors_of_open_clip_are_of_sources_and_need_replacement(
    tmp_path: Path, open_clip_train: Any
) -> None:
    """What docs/exports.md says of them."""
    data = f"{tmp_path}/{{0..2}}.tar::{tmp_path}/{{3..4}}.tar"
    urls, weights = open_clip_train.data.expand_urls(data, "1::2")
    assert (len(urls), weights) == (5, [1, 1, 1, 2, 2])
    command = ["--train-data", data, "--train-num-samples", "9", "--dataset-type", "webdataset"]
    parsed = open_clip_train.params.parse_args(
        [*command, "--train-data-upsampling-factors", "1::2"]
    )
    with pytest.raises(AssertionError, match="only supported when sampling with replacement"):
        open_clip_train.data.get_wds_dataset(parsed, None, is_train=True)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"00000000.tar": 5, "00000002.tar": 5}, "names 2 shards, but not 00000001.tar"),
        ({}, "names no shards"),
        (["00000000.tar"], "not the sizes of shards"),
        ({"00000000.tar": "many"}, "not the sizes of shards"),
    ],
)
def test_sizes_that_are_none_are_refused(tmp_path: Path, sizes: Any, told: str) -> None:
    folder = resharded(tmp_path / "out", {})
    (folder / "sizes.json").write_text(json.dumps(sizes))
    for name in sizes:
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"sizes\.json: {told}" if sizes else "names no shards"):
        arguments(folder)


def test_shards_that_are_not_those_of_the_sizes_are_refused(tmp_path: Path) -> None:
    folder = resharded(tmp_path / "out", {f"{i:08d}.tar": 3 for i in range(3)})
    (folder / "00000007.tar").write_bytes(b"left behind")
    with pytest.raises(InputError, match=r"00000007\.tar: not in sizes\.json; reshard again"):
        arguments(folder)
    (folder / "00000007.tar").unlink()
    (folder / "00000001.tar").unlink()
    with pytest.raises(InputError, match=r"00000001\.tar: in sizes\.json, but not there"):
        arguments(folder)
    (folder / "sizes.json").unlink()
    with pytest.raises(InputError, match=r"sizes\.json: no such file; reshard writes it"):
        arguments(folder)


@pytest.mark.parametrize("name", ["a{0..1}", "a::b", "${HOME}"])
def test_folders_that_open_clip_would_expand_are_refused(tmp_path: Path, name: str) -> None:
    folder = resharded(tmp_path / name, {"00000000.tar": 3})
    with pytest.raises(InputError, match="rename the folder"):
        arguments(folder)


def test_remote_shards_keep_their_address(tmp_path: Path, shelf: Callable[[Path], str]) -> None:
    folder = resharded(tmp_path / "out", {"00000000.tar": 3, "00000001.tar": 4})
    assert arguments(shelf(folder))[1:4] == (
        f"{shelf(folder)}/{{00000000..00000001}}.tar",
        "--train-num-samples",
        "7",
    )


# webdataset


def function_of(manifest: str) -> Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]]:
    """What the printed lines define, in a module of its own."""
    module: dict[str, Any] = {}
    lines = export(ExportSettings(format="webdataset", manifest=manifest)).text
    exec("\n".join(lines), module)
    return module["draw"]


def test_webdataset_draws_what_the_manifest_says(drawn: Any) -> None:
    """Keys come again in each shard, with other copies."""
    import webdataset as wds

    draw = function_of(str(drawn.manifest))
    urls = sorted(map(str, drawn.shards.glob("*.tar")))
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(urls),
        wds.tarfile_to_samples(),
        draw,
        wds.shuffle(20),
        wds.decode("pil"),
    )
    assert len({key for _, key in drawn.copies}) < len(drawn.copies)
    assert names_of(pipeline) == drawn.copies
    assert names_of(pipeline) == drawn.copies  # a second epoch
    fluent = wds.WebDataset([f"pipe:cat {url}" for url in urls], shardshuffle=False).compose(draw)
    assert names_of(fluent) == drawn.copies
    assert names_of(wds.WebDataset(urls[:1], shardshuffle=False).compose(draw)) == Counter(
        {name: copies for name, copies in drawn.copies.items() if name[0] == "00000"}
    )


def test_copies_do_not_share_what_decoding_changes(drawn: Any) -> None:
    draw = function_of(str(drawn.manifest))
    (stem, key), _ = drawn.copies.most_common(1)[0]
    first, second, *_ = draw([{"__url__": f"{stem}.tar", "__key__": key, "txt": b"a"}])
    first["txt"] = "changed"
    assert second["txt"] == b"a"


def test_keys_with_dots_and_folders_are_cut_as_webdataset_cuts_them(
    tmp_path: Path, pair: Any, write: Any, tar_bytes: Any, write_drawn: Any
) -> None:
    import webdataset as wds

    keys = ["v1.0/a", "v1.0/b.c.d", "v1.1/a", "e"]
    members = [member for key in keys for member in pair(key)]
    shard = write(tmp_path / "data.tar" / "x.tar", tar_bytes(members))
    drawn = write_drawn([shard], tmp_path / "manifest")
    url = str(tmp_path / "data.tar" / "x.tar")
    found = names_of(
        function_of(str(tmp_path / "manifest"))(wds.WebDataset(url, shardshuffle=False))
    )
    assert found == {
        (stem, key.removesuffix(".c.d")): copies for (stem, key), copies in drawn.copies.items()
    }


def test_keys_that_webdataset_takes_for_one_are_refused(tmp_path: Path, write_tables: Any) -> None:
    rows = [{"uid": f"{i:032x}", "key": key, "copies": 1} for i, key in enumerate(["a.b", "a.c"])]
    manifest = write_tables(tmp_path / "manifest", {"x": rows})
    with pytest.raises(InputError, match=r"x\.parquet: webdataset .* takes a\.b and a\.c for one"):
        function_of(manifest)


def test_a_name_at_which_a_url_may_end_is_refused(tmp_path: Path, write_tables: Any) -> None:
    write_tables(tmp_path / "manifest", {"my shard": [{"uid": "0" * 32, "copies": 1}]})
    with pytest.raises(InputError, match="a name with a space"):
        export(ExportSettings(format="webdataset", manifest=str(tmp_path / "manifest")))


def test_the_function_does_without_this_project(drawn: Any) -> None:
    lines = export(ExportSettings(format="webdataset", manifest=str(drawn.manifest))).text
    imports = [line for line in lines if "import" in line]
    assert imports == ["import re", "import pyarrow.parquet as pq"]
    body = lines[lines.index("") + 3 :]
    assert len(body) == 5 and all(line.startswith("    ") for line in body)


# Hugging Face datasets


def export_places(drawn: Any, output: Path | str) -> Exported:
    return export(
        ExportSettings(format="datasets", manifest=str(drawn.manifest), output=str(output))
    )


def places_of(folder: Path) -> list[int]:
    return pq.read_table(folder / "indices.parquet")["index"].to_pylist()


def test_places_count_samples_in_the_order_of_the_tars(drawn: Any, tmp_path: Path) -> None:
    """Against webdataset, which reads the tars in their order."""
    import webdataset as wds

    exported = export_places(drawn, tmp_path / "places")
    shards = json.loads((tmp_path / "places" / "shards.json").read_text())
    assert shards == sorted(map(str, drawn.shards.glob("*.tar")))
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    assert names_of(samples[place] for place in places_of(tmp_path / "places")) == drawn.copies
    assert exported.counts == {"shards": 3, "places": 60, "copies": drawn.copies.total()}
    assert not (tmp_path / "places" / "weights.parquet").exists()


def test_weights_stand_beside_the_places(
    drawn: Any, tmp_path: Path, write_drawn: Any, shelf: Callable[[Path], str]
) -> None:
    """Also from and to a remote storage; an export without weights removes those of an earlier."""
    shards = [
        ShardRef(str(path), path.stat().st_size, path.stat().st_mtime)
        for path in sorted(drawn.shards.glob("*.tar"))
    ]
    write_drawn(shards, tmp_path / "weighted", weights=True)
    weighted = ExportSettings(
        format="datasets", manifest=shelf(tmp_path / "weighted"), output=shelf(tmp_path / "places")
    )
    export(weighted)
    weights = pq.read_table(tmp_path / "places" / "weights.parquet")["weight"].to_numpy()
    places = places_of(tmp_path / "places")
    assert weights.tolist() == (np.bincount(places, minlength=60) / 2).tolist()
    export_places(drawn, tmp_path / "places")
    assert places_of(tmp_path / "places") == places
    assert sorted(os.listdir(tmp_path / "places")) == ["indices.parquet", "shards.json"]


@pytest.mark.parametrize("lost", ["first", "middle", "last", "all"])
def test_tars_with_samples_that_have_no_row_are_refused(
    tmp_path: Path, pair: Any, write: Any, tar_bytes: Any, write_drawn: Any, lost: str
) -> None:
    """A sample without a caption is set aside, wherever it stands."""
    gone = {"first": [0], "middle": [2], "last": [4], "all": range(5)}[lost]
    members = [m for i in range(5) for m in pair(f"{i}", None if i in gone else "a photo")]
    shard = write(tmp_path / "x.tar", tar_bytes(members))
    drawn = write_drawn([shard], tmp_path / "manifest")
    with pytest.raises(InputError, match=r"x\.tar: holds something at byte \d+ that .* no row for"):
        export_places(drawn, tmp_path / "places")
    assert list((tmp_path / "places").iterdir()) == []


def test_metadata_and_lost_tars_have_no_places(
    tmp_path: Path, drawn: Any, write_tables: Any
) -> None:
    rows = [{"uid": "0" * 32, "copies": 1}]
    metadata = write_tables(tmp_path / "metadata", {"x": rows})
    settings = ExportSettings(format="datasets", manifest=metadata, output=str(tmp_path / "places"))
    with pytest.raises(InputError, match="made from metadata, so places in tars are not known"):
        export(settings)
    (drawn.shards / "00001.tar").unlink()
    with pytest.raises(InputError, match=r"00001\.tar: cannot be read"):
        export_places(drawn, tmp_path / "places")


# MosaicML streaming


def export_groups(manifest: str, output: str) -> Exported:
    return export(ExportSettings(format="mosaicml", manifest=manifest, output=output))


def test_groups_and_their_repeats_are_the_copies(
    drawn: Any, tmp_path: Path, shelf: Callable[[Path], str]
) -> None:
    """Also from and to a remote storage."""
    output = tmp_path / "groups"
    exported = export_groups(shelf(drawn.manifest), shelf(output))
    names: Names = Counter()
    uids: Counter[str] = Counter()
    for stream in json.loads((output / "streams.json").read_text()):
        rows = pq.read_table(output / f"{stream['name']}.parquet").to_pylist()
        assert len(rows) == stream["samples"]
        for row in rows:
            names[row["shard"], row["key"]] += stream["repeat"]
            uids[row["uid"]] += stream["repeat"]
    assert (names, uids) == (drawn.copies, drawn.uids)
    assert exported.counts["copies"] == names.total()
    assert exported.counts["streams"] == 3


def test_groups_of_an_earlier_export_are_gone(
    tmp_path: Path, drawn: Any, write_tables: Any
) -> None:
    output = tmp_path / "groups"
    export_groups(str(drawn.manifest), str(output))
    assert sorted(os.listdir(output)) == ["1x.parquet", "2x.parquet", "3x.parquet", "streams.json"]
    rows = [{"uid": f"{i:032x}", "copies": 12} for i in range(3)]
    export_groups(write_tables(tmp_path / "other", {"x": rows}), str(output))
    assert sorted(os.listdir(output)) == ["12x.parquet", "streams.json"]


def test_tables_that_are_no_groups_stay(drawn: Any, tmp_path: Path) -> None:
    kept = [tmp_path / "groups" / name for name in ("index.parquet", "matrix.parquet", "x.parquet")]
    kept[0].parent.mkdir()
    for path in kept:
        path.write_bytes(b"mine")
    chosen = {"manifest": str(drawn.manifest), "output": str(tmp_path / "groups")}
    export(ExportSettings(format="mosaicml", **chosen))
    assert [path.read_bytes() for path in kept] == [b"mine"] * 3


def test_streams_are_named_only_when_groups_are_whole(
    tmp_path: Path, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "groups"
    export_groups(str(drawn.manifest), str(output))
    (drawn.manifest / "00002.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"00002\.parquet: cannot be read"):
        export_groups(str(drawn.manifest), str(output))
    assert os.listdir(output) == []


def test_the_same_bytes_again(drawn: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_groups(str(drawn.manifest), str(tmp_path / name))
        export_places(drawn, tmp_path / f"places {name}")
    for first, second in (("one", "two"), ("places one", "places two")):
        contents = [
            {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
            for name in (first, second)
        ]
        assert contents[0] == contents[1]

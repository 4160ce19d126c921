"""Results that CLIP_benchmark reads, and its own that are read here."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.clip_benchmark import ClipBenchmarkRow, read_rows, renamed, rows_of, write_rows
from evaluation.draws import Draws
from evaluation.resampling import Resampling
from evaluation.results import Conditions, ProtocolResult, ProtocolRun, SetUsed
from m4.errors import InputError

# As `clip_benchmark build` 1.6 writes it: columns in the order of a set, so in any.
THEIRS = """\
acc1,language,model_fullname,pretrained,mean_per_class_recall,acc5,task,dataset,model,\
image_retrieval_recall@5,text_retrieval_recall@5
0.6331,en,ViT-B-32 openai,openai,0.6330,0.8883,zeroshot_classification,wds/imagenet1k,ViT-B-32,,
,en,ViT-B-32 openai,openai,,,zeroshot_retrieval,wds/flickr30k,ViT-B-32,0.8344,0.9491
"""


def result_of(measures: dict[str, float], task: str = "zero-shot") -> ProtocolResult:
    draws = [
        Draws(
            name, (f"{task}: all",), np.array([value]), np.full((100, 1), value), None, 10, "higher"
        )
        for name, value in measures.items()
    ]
    conditions = Conditions(
        protocol="p",
        title="t",
        source="s",
        digest="0",
        model="ViT-B-32/openai",
        sets={"images": SetUsed(name="imagenet1k", digest="1", images=10)},
        resampling=Resampling(resamples=100, permutations=100),
        compat=None,
    )
    return ProtocolRun.of(conditions, draws, []).result


def test_theirs_is_read(tmp_path: Path):
    path = tmp_path / "benchmark.csv"
    path.write_text(THEIRS)
    first, second = read_rows(path)
    assert first.metrics == {"acc1": 0.6331, "acc5": 0.8883, "mean_per_class_recall": 0.6330}
    assert (first.dataset, first.model, first.pretrained) == (
        "wds/imagenet1k",
        "ViT-B-32",
        "openai",
    )
    assert second.task == "zeroshot_retrieval"
    assert second.metrics == {
        "image_retrieval_recall@5": 0.8344,
        "text_retrieval_recall@5": 0.9491,
    }


def test_ours_is_written_as_theirs_and_comes_back(tmp_path: Path):
    path = tmp_path / "benchmark.csv"
    path.write_text(THEIRS)
    rows = read_rows(path)
    again = tmp_path / "again.csv"
    write_rows(again, rows)
    assert read_rows(again) == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "benchmark.csv"]
    with again.open() as stream:
        table = list(csv.DictReader(stream))
    with path.open() as stream:
        theirs = list(csv.DictReader(stream))
    assert [set(row) for row in table] == [set(row) for row in theirs]
    assert [row["model_fullname"] for row in table] == ["ViT-B-32 openai"] * 2


def test_figures_go_under_their_names():
    measures = {"zero_shot_top1": 0.5, "zero_shot_top5": 0.75, "mean_per_class_recall": 0.25}
    (row,) = rows_of(result_of({**measures, "worst_group_gap": 0.1}))
    assert row == ClipBenchmarkRow(
        dataset="imagenet1k",
        model="ViT-B-32",
        pretrained="openai",
        task="zeroshot_classification",
        metrics={"acc1": 0.5, "acc5": 0.75, "mean_per_class_recall": 0.25},
    )
    # What is found is named, not what is asked: an image finds texts.
    (row,) = rows_of(result_of({"image_to_text_r5": 0.9, "text_to_image_r10": 0.8}))
    assert row.task == "zeroshot_retrieval"
    assert row.metrics == {"text_retrieval_recall@5": 0.9, "image_retrieval_recall@10": 0.8}


def test_a_result_of_one_evaluation_is_read(tmp_path: Path):
    content = {
        "dataset": "cifar10",
        "model": "m",
        "pretrained": "p",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.9},
        "language": "en",
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    (row,) = read_rows(path)
    assert row.metrics == {"acc1": 0.9}


def test_what_is_no_finite_number_is_no_metric(tmp_path: Path):
    facts = {"dataset": "d", "model": "m", "pretrained": "p", "task": "zeroshot_classification"}
    metrics = {"acc1": 0.5, "acc5": float("nan"), "recall": None, "map": float("inf")}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({**facts, "metrics": metrics}))
    assert read_rows(path)[0].metrics == {"acc1": 0.5}
    table = tmp_path / "theirs.csv"
    names = ",".join([*facts, "acc1", "acc5"])
    table.write_text(f"{names}\n{','.join(facts.values())},0.5,nan\n")
    assert read_rows(table)[0].metrics == {"acc1": 0.5}


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    path = tmp_path / "excel.csv"
    path.write_text(THEIRS, encoding="utf-8-sig")
    assert read_rows(path)[0].metrics["acc1"] == 0.6331


def test_a_row_that_is_too_long_is_refused(tmp_path: Path):
    path = tmp_path / "long.csv"
    path.write_text(THEIRS.rstrip("\n") + ",0.1\n")
    with pytest.raises(InputError, match=r"long\.csv: .* more cells than the header, .*'0\.1'"):
        read_rows(path)
    path.write_text(THEIRS.splitlines()[0])
    assert read_rows(path) == []


def test_data_sets_are_renamed_to_stand_beside_theirs(tmp_path: Path):
    ours = rows_of(result_of({"zero_shot_top1": 0.5}))
    (row,) = renamed(ours, {"imagenet1k": "wds/imagenet1k"})
    assert row == ours[0].model_copy(update={"dataset": "wds/imagenet1k"})
    with pytest.raises(InputError, match="no row is of 'cifar'; there are imagenet1k"):
        renamed(ours, {"cifar": "wds/cifar"})
    write_rows(tmp_path / "new" / "table.csv", [row])
    assert read_rows(tmp_path / "new" / "table.csv") == [row]


def test_what_is_no_such_result_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="protocol p: CLIP_benchmark has no metric"):
        rows_of(result_of({"worst_group_gap": 0.1}))
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: row 1 is none of CLIP_benchmark's results"):
        read_rows(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "absent.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match=r"list\.json: row 1"):
        read_rows(tmp_path / "list.json")
    with pytest.raises(InputError, match="no results to write"):
        write_rows(path, [])

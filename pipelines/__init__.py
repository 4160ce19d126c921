"""The Beam jobs (annotate, count, apply) and the shard and table formats they read and write."""

from importlib import import_module
from typing import Any

_HOMES = {
    "AnnotateSettings": "pipelines.settings",
    "annotate": "pipelines.stages",
    "IndexSettings": "pipelines.index",
    "index_shards": "pipelines.index",
    "ValidateSettings": "pipelines.validation",
    "validate": "pipelines.validation",
    "Validation": "pipelines.validation",
    "ApplySettings": "pipelines.settings",
    "apply": "pipelines.stages",
    "BeamSettings": "pipelines.beam",
    "Exported": "pipelines.exports.drawn",
    "ExportSettings": "pipelines.exports.exporting",
    "export": "pipelines.exports.exporting",
    "Imported": "pipelines.subsets",
    "ImportSubsetSettings": "pipelines.subsets",
    "import_subset": "pipelines.subsets",
    "CountSettings": "pipelines.settings",
    "count": "pipelines.stages",
    "read_patterns": "pipelines.counting",
    "CurveSettings": "pipelines.settings",
    "curve": "pipelines.stages",
    "SolveSettings": "pipelines.settings",
    "solve": "pipelines.stages",
    "VerifyPolicySettings": "pipelines.settings",
    "verify_policy": "pipelines.stages",
    "Verification": "pipelines.verification",
    "DriftSettings": "pipelines.drifting",
    "drift": "pipelines.drifting",
    "PurgeSettings": "pipelines.purging",
    "Purge": "pipelines.purging",
    "purge": "pipelines.purging",
    "Lexicon": "pipelines.captions.lexicon",
    "check_receipt": "pipelines.receipt_check",
    "read_receipt": "pipelines.receipts",
    "Receipt": "pipelines.receipts",
    "ReceiptWriter": "pipelines.receipts",
    "UseCounter": "pipelines.receipts",
    "read_run": "pipelines.record",
    "StageRecord": "pipelines.record",
    "Failure": "pipelines.shards",
    "Sample": "pipelines.shards",
    "SampleSpan": "pipelines.shards",
    "ShardRef": "pipelines.shards",
    "find_shards": "pipelines.shards",
    "read_samples": "pipelines.shards",
    "AnnotateShards": "pipelines.transforms",
    "ApplyPolicy": "pipelines.transforms",
    "CountPatterns": "pipelines.transforms",
    "ForEach": "pipelines.transforms",
    "AddUpShards": "pipelines.transforms",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

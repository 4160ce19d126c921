"""The Beam jobs (annotate, count, apply) and the shard and table formats they read and write."""

from importlib import import_module
from typing import Any

_HOMES = {
    "AnnotateSettings": "pipelines.settings",
    "annotate": "pipelines.stages",
    "ApplySettings": "pipelines.settings",
    "apply": "pipelines.stages",
    "BeamSettings": "pipelines.beam",
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
    "Lexicon": "pipelines.captions.lexicon",
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

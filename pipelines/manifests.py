"""Apply: how often each sample is used, from the policy and the annotations alone."""

import math

import numpy as np
import pyarrow as pa

from m4.catalogue import Catalogue
from m4.policy import Policy
from m4.sampling import draw_copies
from pipelines.record import digest_of
from pipelines.settings import ApplySettings
from pipelines.tables import (
    Commit,
    manifest_schema,
    read_commit,
    read_table,
    to_patterns,
    write_table,
)


def write_manifest(
    annotations: str,
    stem: str,
    folder: str,
    catalogue: Catalogue,
    policy: Policy | None,
    settings: ApplySettings,
    digest: str,
) -> Commit:
    """Write the manifest of one shard. It has a row for every annotated sample, used or not."""
    table = read_table(annotations, stem)
    source = read_commit(annotations, stem)
    assert source is not None  # the stage lists committed tables only
    uids = table["uid"].to_pylist()
    if policy is None or not uids:
        weights = np.ones(len(uids))
    else:
        weights = policy.weights(to_patterns(table, catalogue))
    copies = draw_copies(weights, uids, seed=settings.seed, epoch=settings.epoch)
    columns = [table[name] for name in ("uid", "key", "offset", "length")]
    columns.append(pa.array(copies))
    if settings.weights:
        columns.append(pa.array(weights))
    commit = Commit(
        shard=source.shard,
        size=source.size,
        modified=source.modified,
        settings=digest_of(digest, source.settings),
        rows=len(uids),
        counts={
            "used": int((copies > 0).sum()),
            "copies": int(copies.sum()),
            "planned": math.fsum(weights),
        },
    )
    schema = manifest_schema(weights=settings.weights)
    write_table(folder, stem, pa.Table.from_arrays(columns, schema=schema), commit)
    return commit

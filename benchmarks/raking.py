"""Raking by Meta's `balance`, in whatever interpreter has it: the child of `benchmarks.marginals`.

    python raking.py rows.npz weights.npz

`rows.npz` holds `category_<a>`, (N,) int, and `share_<a>`, the share of each category, for every
attribute a. Writes `weights`, (N,), and the `seconds` that raking took, from a data frame on.
Imports nothing of this project: `balance` pins older libraries than ours on Python 3.11.
"""

import logging
import sys
import time

import numpy as np
import pandas as pd


def rake_rows(rows: str, weights: str) -> None:
    """Rake the rows of one file to its shares, and write their weights to the other."""
    from balance.weighting_methods.rake import rake  # over a second to import

    logging.disable(logging.WARNING)
    with np.load(rows) as given:
        names = sorted(name for name in given.files if name.startswith("category_"))
        frame = pd.DataFrame({name: given[name].astype(str) for name in names})
        margins = {
            name: {str(at): float(share) for at, share in enumerate(given[_shares(name)])}
            for name in names
        }
    start = time.perf_counter()
    raked = rake(
        frame,
        pd.Series(np.ones(len(frame))),
        None,
        None,
        transformations=None,
        target_margins=margins,
        convergence_rate=1e-12,
        rate_tolerance=0.0,
    )
    seconds = time.perf_counter() - start
    np.savez(weights, weights=raked["weight"].to_numpy(), seconds=seconds)


def _shares(category: str) -> str:
    return category.replace("category_", "share_")


if __name__ == "__main__":
    rake_rows(*sys.argv[1:])

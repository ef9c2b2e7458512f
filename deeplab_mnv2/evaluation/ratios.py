"""Quotients of counts, where a count may be zero."""

from typing import Any

import numpy as np


def ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """Return the quotient in float64, NaN where the denominator is not above 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def mean_present(values: np.ndarray) -> np.ndarray:
    """Return the mean (...) of (..., C) over the values that are not NaN; NaN if all are."""
    present = ~np.isnan(values)
    return ratio(np.where(present, values, 0).sum(-1), present.sum(-1))


def json_number(value: Any) -> float | None:
    """Return a float, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)

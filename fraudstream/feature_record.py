"""The stored form of a transaction's features: a version, then the values as little-endian float64.

Each stored row has it, so that a verdict can be explained, and compared bit by bit, long afterwards.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraudstream.features import FEATURE_NAMES

# Goes up whenever FEATURE_NAMES, or what one of them means, changes.
_VERSION = 1
RECORD_BYTES = 1 + 8 * len(FEATURE_NAMES)


class FeatureRecordError(Exception):
    """A stored record is of another version than this code knows."""


def pack(features: NDArray[np.float64]) -> pa.Array:
    """Features of n transactions, shape (n, len(FEATURE_NAMES)), as n binary values."""
    records = np.empty((len(features), RECORD_BYTES), np.uint8)
    records[:, 0] = _VERSION
    records[:, 1:] = np.ascontiguousarray(features, dtype="<f8").view(np.uint8)
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(RECORD_BYTES), len(records), [None, pa.py_buffer(records)]
    )
    return fixed.cast(pa.binary())


def unpack(record: bytes) -> NDArray[np.float64]:
    """The features of one stored row, shape (len(FEATURE_NAMES),). Raises FeatureRecordError."""
    if len(record) != RECORD_BYTES or record[0] != _VERSION:
        raise FeatureRecordError(
            f"features of version {record[0] if record else 'none'} in {len(record)} bytes; this version of "
            f"fraudstream reads version {_VERSION} in {RECORD_BYTES} bytes"
        )
    return np.frombuffer(record, "<f8", offset=1)

"""The stored form of a row's features: bit for bit what was computed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fraudstream.feature_record import RECORD_BYTES, FeatureRecordError, pack, unpack
from fraudstream.features import FEATURE_NAMES

WIDTH = len(FEATURE_NAMES)


@given(arrays(np.float64, st.tuples(st.integers(0, 5), st.just(WIDTH)), elements=st.floats()))
def test_what_is_packed_is_unpacked_to_the_bit(features: np.ndarray) -> None:
    records = pack(features)
    assert records.type == pa.binary() and len(records) == len(features)
    for record, row in zip(records.to_pylist(), features, strict=True):
        assert unpack(record).tobytes() == row.tobytes()


def test_rows_may_be_a_view_of_other_ones() -> None:
    features = np.arange(4 * WIDTH, dtype=np.float64).reshape(WIDTH, 4).T
    assert np.array_equal(unpack(pack(features)[2].as_py()), features[2])


@pytest.mark.parametrize("record", [b"", b"\x01", b"\x02" + bytes(RECORD_BYTES - 1), bytes(RECORD_BYTES + 1)])
def test_a_record_of_another_version_is_refused(record: bytes) -> None:
    with pytest.raises(FeatureRecordError, match="features of version"):
        unpack(record)

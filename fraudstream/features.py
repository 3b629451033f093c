"""What the model sees of a transaction. Pure numpy; training and streaming call the same function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEATURE_NAMES = ("Amount", "tod_sin", "tod_cos", "night", "weekend", "missing_location")

_DAY_S = 86_400
_NIGHT_ENDS_S = 6 * 3_600
_FRIDAY, _SATURDAY = 4, 5  # the weekend where the shipped cities lie
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday


def row_features(
    amount_cents: NDArray[np.int64], time_s: NDArray[np.int64], missing_location: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Features of n transactions, each from its own row only: shape (n, len(FEATURE_NAMES)).

    `time_s` is local time as seconds since 1970-01-01 00:00:00. `tod_sin` and `tod_cos` put the time of
    day on a circle, so that 23:59 and 00:01 are neighbours; night is before 06:00.
    """
    second_of_day = time_s % _DAY_S
    angle = second_of_day * (2 * np.pi / _DAY_S)
    weekday = (time_s // _DAY_S + _EPOCH_WEEKDAY) % 7
    columns = (
        amount_cents / 100,
        np.sin(angle),
        np.cos(angle),
        second_of_day < _NIGHT_ENDS_S,
        (weekday == _FRIDAY) | (weekday == _SATURDAY),
        missing_location,
    )
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])

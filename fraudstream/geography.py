"""Where the known cities lie, and how far apart."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from fraudstream.history import code_of

# Latitude and longitude in degrees (GeoNames). A city that is not here has no place: no speed is computed.
COORDINATES: dict[str, tuple[float, float]] = {
    "Cairo": (30.0626, 31.2497),
    "Giza": (30.0081, 31.2109),
    "Alex": (31.2018, 29.9158),
    "Luxor": (25.6989, 32.6421),
    "Aswan": (24.0934, 32.9070),
    "Sharm": (27.8518, 34.3050),
    "Hurghada": (27.2574, 33.8129),
}
_EARTH_RADIUS_KM = 6371.0


def city_places() -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Codes of the known cities in ascending order, shape (c,), and their coordinates in radians, (c, 2)."""
    codes = np.array([code_of(city) for city in COORDINATES], dtype=np.uint32)
    places = np.array([[radians(angle) for angle in place] for place in COORDINATES.values()])
    order = np.argsort(codes)
    return codes[order], places[order]


def city_distances() -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Codes of the known cities in ascending order, shape (c,), and their distances in km, (c, c)."""
    codes, places = city_places()
    return codes, np.array([[distance_km(place, other) for other in places] for place in places])


def distance_km(place: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Great-circle distance of two places in radians, by the haversine formula (Sinnott, 1984)."""
    north, east = (other[0] - place[0]) / 2, (other[1] - place[1]) / 2
    chord = sin(north) ** 2 + cos(place[0]) * cos(other[0]) * sin(east) ** 2
    return 2 * _EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))

"""Distances between the known cities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fraudstream.geography import COORDINATES, city_distances, city_places, distance_km
from fraudstream.history import code_of
from fraudstream.schema import CITIES
from tests.support.reference_features import reference_distance_km


def kilometres(city: str, other: str) -> float:
    codes, distances = city_distances()
    here, there = (int(np.flatnonzero(codes == code_of(name))[0]) for name in (city, other))
    return float(distances[here, there])


def test_every_known_city_has_a_place() -> None:
    assert set(COORDINATES) == set(CITIES)


def test_codes_ascend_and_belong_to_their_places() -> None:
    codes, places = city_places()
    assert codes.tolist() == sorted({code_of(city) for city in CITIES})
    for city, (latitude, longitude) in COORDINATES.items():
        (place,) = places[codes == code_of(city)]
        assert np.degrees(place) == pytest.approx([latitude, longitude])


@pytest.mark.parametrize(
    ("city", "other", "expected"),
    [
        ("Cairo", "Alex", 180),
        ("Cairo", "Aswan", 684),
        ("Cairo", "Luxor", 504),
        ("Sharm", "Hurghada", 82),
        ("Cairo", "Giza", 7),
    ],
)
def test_distances_are_those_of_the_map(city: str, other: str, expected: float) -> None:
    assert kilometres(city, other) == pytest.approx(expected, rel=0.02, abs=1)


@pytest.mark.parametrize(("city", "other"), list(itertools.product(CITIES, CITIES)))
def test_distances_are_great_circles_and_the_same_both_ways(city: str, other: str) -> None:
    assert kilometres(city, other) == kilometres(other, city)
    assert kilometres(city, other) == pytest.approx(reference_distance_km(city, other), abs=1e-6)
    assert (kilometres(city, other) == 0) == (city == other)


def test_the_far_side_of_the_earth_is_half_its_circumference_away() -> None:
    pole, other_pole = np.array([np.pi / 2, 0.0]), np.array([-np.pi / 2, 0.0])
    assert distance_km(pole, other_pole) == pytest.approx(np.pi * 6371)
    assert distance_km(np.array([0.0, 0.0]), np.array([0.0, np.pi])) == pytest.approx(np.pi * 6371)

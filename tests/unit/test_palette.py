"""Colours that can be read, told apart, and are the same in the theme and in the figures."""

from __future__ import annotations

import tomllib
from itertools import pairwise

import pytest

from fraudstream.config import PROJECT_DIR
from fraudstream.views.palette import DARK, LIGHT, Palette, palette_of

THEMES = {"light": LIGHT, "dark": DARK}
# WCAG 2.1: text at 4.5 to 1 (level AA), graphics that mean something at 3 to 1.
TEXT, GRAPHICS = 4.5, 3.0
# Streamlit draws captions so over their ground; it is no setting.
CAPTION_OPACITY = 0.6


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it, of #RRGGBB."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def caption(text: str, ground: str) -> str:
    """The colour of a caption as it is seen."""
    pairs = [(int(text[start : start + 2], 16), int(ground[start : start + 2], 16)) for start in (1, 3, 5)]
    mixed = [round(CAPTION_OPACITY * above + (1 - CAPTION_OPACITY) * below) for above, below in pairs]
    return "#{:02X}{:02X}{:02X}".format(*mixed)


def theme(name: str) -> dict[str, str]:
    return tomllib.loads((PROJECT_DIR / ".streamlit" / "config.toml").read_text())["theme"][name]


def test_contrast_is_the_one_that_wcag_defines() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


def test_a_caption_lies_between_text_and_ground() -> None:
    assert caption("#000000", "#FFFFFF") == "#666666"
    assert caption("#FFFFFF", "#000000") == "#999999"


@pytest.mark.parametrize("name", THEMES)
def test_text_can_be_read_on_whatever_it_stands(name: str) -> None:
    palette = THEMES[name]
    for ground in (palette.background, palette.panel, palette.flagged_row, palette.land):
        assert contrast(palette.text, ground) >= TEXT
    for ground in (palette.background, palette.panel):
        assert contrast(palette.muted, ground) >= TEXT
        assert contrast(theme(name)["primaryColor"], ground) >= TEXT


@pytest.mark.parametrize("name", THEMES)
def test_captions_can_be_read(name: str) -> None:
    settings = theme(name)
    for ground in (settings["backgroundColor"], settings["secondaryBackgroundColor"]):
        assert contrast(caption(settings["textColor"], ground), ground) >= TEXT


@pytest.mark.parametrize("name", THEMES)
def test_what_means_something_stands_out(name: str) -> None:
    palette = THEMES[name]
    for colour in (palette.flagged, palette.confirmed, palette.legitimate, palette.plain):
        assert contrast(colour, palette.background) >= GRAPHICS


@pytest.mark.parametrize("name", THEMES)
def test_a_scale_goes_steadily_from_the_background_to_the_strongest(name: str) -> None:
    palette = THEMES[name]
    steps = [contrast(colour, palette.background) for colour in palette.scale]
    assert all(less < more for less, more in pairwise(steps))
    assert steps[-1] >= GRAPHICS


def as_seen_without(missing: str, colour: str) -> tuple[float, ...]:
    """Linear RGB as seen by who lacks a cone, by the matrices of Viénot, Brettel and Mollon (1999)."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    )
    if missing == "red":
        shared = 0.11238 * red + 0.88762 * green
        return shared, shared, 0.00401 * red - 0.00401 * green + blue
    shared = 0.29275 * red + 0.70725 * green
    return shared, shared, -0.02234 * red + 0.02234 * green + blue


@pytest.mark.parametrize("missing", ["red", "green"])
@pytest.mark.parametrize("name", THEMES)
def test_flagged_and_not_flagged_differ_for_the_colour_blind(name: str, missing: str) -> None:
    palette = THEMES[name]
    flagged, plain = as_seen_without(missing, palette.flagged), as_seen_without(missing, palette.plain)
    assert sum(abs(one - other) for one, other in zip(flagged, plain, strict=True)) > 0.4


@pytest.mark.parametrize("name", THEMES)
def test_theme_and_figures_have_the_same_ground_and_text(name: str) -> None:
    palette: Palette = THEMES[name]
    settings = theme(name)
    assert settings["backgroundColor"] == palette.background
    assert settings["secondaryBackgroundColor"] == palette.panel
    assert settings["textColor"] == palette.text
    assert palette_of(name) is palette


def test_an_unknown_theme_is_light() -> None:
    assert palette_of(None) is LIGHT

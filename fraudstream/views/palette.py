"""Colours: the theme's and the figures', light and dark.

Blue and vermilion are from the palette by Okabe and Ito, which the colour-blind can tell apart; they are
lightened or darkened until each stands out from its background. `.streamlit/config.toml` has the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours as #RRGGBB. `scale` runs from little to much, for heat maps and the map of shares;
    `series` are for lines and stacks without a meaning of their own."""

    background: str
    panel: str
    text: str
    muted: str
    grid: str
    plain: str
    flagged: str
    confirmed: str
    legitimate: str
    flagged_row: str
    land: str
    borders: str
    scale: tuple[str, ...]
    series: tuple[str, ...]


LIGHT = Palette(
    background="#FFFFFF",
    panel="#F3F6FA",
    text="#0F1720",
    muted="#566476",
    grid="#E3E8EE",
    plain="#5694C6",
    flagged="#D55E00",
    confirmed="#A63603",
    legitimate="#00755A",
    flagged_row="#FDEBDD",
    land="#EEF1F5",
    borders="#B7C1CD",
    scale=("#FFF4EA", "#FDD0A2", "#FDAE6B", "#F16913", "#A63603"),
    series=("#0072B2", "#D55E00", "#00795C", "#B0568B", "#8A6D00", "#566476"),
)
DARK = Palette(
    background="#0F1720",
    panel="#17212C",
    text="#E6ECF3",
    muted="#9FB0C3",
    grid="#2A3745",
    plain="#4C86B4",
    flagged="#FF8A3D",
    confirmed="#FFB37A",
    legitimate="#3CC7A0",
    flagged_row="#3D2717",
    land="#1D2935",
    borders="#48596B",
    scale=("#1B2530", "#5B3418", "#9A4D14", "#E0711F", "#FFB37A"),
    series=("#56B4E9", "#FF8A3D", "#3CC7A0", "#E59AC6", "#E6C84B", "#9FB0C3"),
)


def palette_of(theme: str | None) -> Palette:
    """`theme` is "dark" or "light"; what is not known yet is light."""
    return DARK if theme == "dark" else LIGHT

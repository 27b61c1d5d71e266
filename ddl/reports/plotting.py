"""The colours of plots, and their values as JSON.

A plot names colours by their index in a palette: the page chooses the palette, because it knows if it is light, dark or printed.
"""

import math
from collections.abc import Sequence

# From the palette of Okabe and Ito, "Color Universal Design" (2008), changed until every colour has a contrast of 3:1 with its
# background (WCAG 2.2, 1.4.11) and the colour-blind can distinguish any two; a test simulates this.
LIGHT = ("#2D65B0", "#CF3900", "#21A172", "#A35086", "#A1863E", "#664F40")
DARK = ("#409EE1", "#D36A12", "#4FE6B3", "#C3729C", "#F7D633", "#C5D8F1")


def six_digits(values: Sequence[float | None]) -> list[float | None]:
    """`values` with six significant digits, enough for a screen at a third of the bytes. Not finite: None."""
    return [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in values]

"""Figures of a trial's results: image grids as PNG and line charts as SVG."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

GAP = 2
"""Pixels between two images."""
CAPTION = 14
"""Height of a column's caption in pixels."""


def image_grid(images: Tensor, columns: int, captions: Sequence[str] = (), enlarge: int = 2) -> bytes:
    """A PNG of images [n, c, h, w] in 0..1 (c: 1 grey, 3 colour) in rows of `columns`, enlarged by the factor `enlarge`.

    `captions` name the columns. Values are clamped to 0..1; NaN is black.
    """
    pixels = (torch.nan_to_num(images.detach().float().cpu()).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = F.interpolate(pixels, scale_factor=enlarge, mode="nearest").expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    n, height, width, _ = pixels.shape
    top = CAPTION if captions else 0
    rows = math.ceil(n / columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, top + rows * (height + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        draw.text((column * (width + GAP) + 1, 0), caption, fill="#222222")
    for index, image in enumerate(pixels.contiguous().numpy()):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(image), (column * (width + GAP), top + row * (height + GAP)))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def line_chart(x: Sequence[float], series: Mapping[str, Sequence[float]], x_label: str, y_label: str, title: str = "") -> bytes:
    """An SVG of `series` (by name, one value for each of `x`, NaN if missing) over `x`. The first series is black."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(series.items()):
        axes.plot(x, values, label=name, color="black" if index == 0 else f"C{index - 1}", linewidth=1.2)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.legend(frameon=False)
    file = io.BytesIO()
    # Without a date and with a fixed hash salt, equal results give identical files.
    with matplotlib.rc_context({"svg.hashsalt": "ddl"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()

"""Pictures that a task draws of its results: images side by side as a PNG, lines over time as an SVG."""

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
CAPTION = 14
"""Pixels between two images, and above a column for its name."""


def image_grid(images: Tensor, columns: int, captions: Sequence[str] = (), enlarge: int = 2) -> bytes:
    """A PNG of images [n, c, h, w] in 0..1 (c: 1 grey, 3 colour), `columns` a row, each pixel drawn `enlarge` times as wide.

    `captions` name the columns. What lies outside 0..1 is cut off, and what is no number is black.
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
    for place, image in enumerate(pixels.contiguous().numpy()):
        row, column = divmod(place, columns)
        sheet.paste(Image.fromarray(image), (column * (width + GAP), top + row * (height + GAP)))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def line_chart(x: Sequence[float], series: Mapping[str, Sequence[float]], x_label: str, y_label: str, title: str = "") -> bytes:
    """An SVG of `series` (name to a value for each of `x`, NaN where there is none) over `x`, the first in black."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(series.items()):
        axes.plot(x, values, label=name, color="black" if index == 0 else f"C{index - 1}", linewidth=1.2)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.legend(frameon=False)
    file = io.BytesIO()
    # Without the date and with names of its own choice, the same results give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "ddl"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()

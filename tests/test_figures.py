"""Tests of figures, by reading them back."""

import io
import math
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from ddl import figures


def test_images_stand_row_by_row_with_a_gap_between():
    images = torch.stack([torch.full((3, 2, 2), value) for value in (0.0, 0.2, 0.4, 0.6, 1.0)])
    sheet = np.asarray(Image.open(io.BytesIO(figures.image_grid(images, columns=3, enlarge=1))))
    assert sheet.shape == (2 + figures.GAP + 2, 3 * 2 + 2 * figures.GAP, 3)
    step = 2 + figures.GAP
    assert [sheet[0, column * step, 0] for column in range(3)] == [0, 51, 102]
    assert [sheet[step, column * step, 0] for column in range(3)] == [153, 255, 255]
    assert (sheet[:, 2 : 2 + figures.GAP] == 255).all()


def test_a_grey_image_is_grey_and_what_is_out_of_range_or_no_number_is_cut():
    images = torch.tensor([-0.5, 0.5, 1.5, math.nan]).view(4, 1, 1, 1)
    sheet = np.asarray(Image.open(io.BytesIO(figures.image_grid(images, columns=4, enlarge=3))))
    assert [sheet[0, column * (3 + figures.GAP)].tolist() for column in range(4)] == [[0] * 3, [128] * 3, [255] * 3, [0] * 3]


def test_captions_stand_above_their_columns():
    images = torch.zeros(2, 1, 30, 30)
    sheet = np.asarray(Image.open(io.BytesIO(figures.image_grid(images, columns=2, captions=("noisy", "clean")))))
    assert sheet.shape[0] == figures.CAPTION + 60
    assert (sheet[: figures.CAPTION] < 255).any(axis=(0, 2)).nonzero()[0].max() > 62


def test_lines_are_an_svg_with_their_names_and_the_same_again():
    drawn = figures.line_chart([1, 2, 3], {"measured": [1.0, 2.0, 3.0], "predicted": [math.nan, 2.5, 2.0]}, "month", "passengers")
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert b"predicted" in drawn
    assert b"passengers" in drawn
    assert drawn == figures.line_chart([1, 2, 3], {"measured": [1.0, 2.0, 3.0], "predicted": [math.nan, 2.5, 2.0]}, "month", "passengers")

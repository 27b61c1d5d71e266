"""A film strip of an episode: the cart and its pole at moments from the first step to the last."""

import io
import math
from collections.abc import Callable

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ddl.rl.draws import UniformDraws
from ddl.rl.environments import HALF_POLE, MAX_POSITION, EnvState, VectorisedCartPole
from ddl.rl.policies import greedy

FRAMES = 12
WIDTH, HEIGHT = 150, 90
"""Of a frame, in pixels."""

INK, CART, POLE, RAIL = "#222222", "#33557a", "#c8793a", "#999999"


def film_strip(values: Callable[[EnvState], Tensor], environment: VectorisedCartPole, seed: int, device: torch.device) -> bytes:
    """A PNG of one greedy episode of the first member that `values` (states -> action values) knows."""
    state = environment.start(UniformDraws([seed], "film", environment.start_numbers, device).at(0))
    track = [state.physics[:, 0, 0].tolist()]
    over = False
    while not over:
        state, terminated, truncated = environment.step(state, greedy(values(state)))
        track.append(state.physics[:, 0, 0].tolist())
        over = bool((terminated | truncated).any())
    chosen = sorted({round(index * (len(track) - 1) / (FRAMES - 1)) for index in range(FRAMES)})
    columns = math.ceil(FRAMES / 2)
    sheet = Image.new("RGB", (columns * WIDTH, math.ceil(len(chosen) / columns) * HEIGHT), "white")
    for place, step in enumerate(chosen):
        sheet.paste(_frame(track[step], step), (place % columns * WIDTH, place // columns * HEIGHT))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _frame(physics: list[float], step: int) -> Image.Image:
    position, _, angle, _ = physics
    frame = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(frame)
    metre = (WIDTH - 20) / (2 * MAX_POSITION)
    x, ground = WIDTH / 2 + position * metre, HEIGHT - 22
    pole = 45.0 * 2 * HALF_POLE
    draw.line((10, ground + 6, WIDTH - 10, ground + 6), fill=RAIL)
    draw.rectangle((x - 13, ground - 6, x + 13, ground + 6), fill=CART)
    draw.line((x, ground - 6, x + pole * math.sin(angle), ground - 6 - pole * math.cos(angle)), fill=POLE, width=4)
    draw.text((6, HEIGHT - 14), f"step {step}", fill=INK)
    draw.rectangle((0, 0, WIDTH - 1, HEIGHT - 1), outline="#dddddd")
    return frame

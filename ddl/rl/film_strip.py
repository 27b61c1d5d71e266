"""Film strips of episodes: frames of the cart and its pole from the first step to the last."""

import io
import math
from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ddl.rl.environments import HALF_POLE, MAX_POSITION, EnvState, VectorisedCartPole
from ddl.rl.policies import greedy

CHECK_EVERY = 20
"""Steps between checks if all episodes have ended: reading the result synchronises the device."""

FRAMES = 12
WIDTH, HEIGHT = 150, 90
"""Size of a frame in pixels."""

INK, CART, POLE, RAIL = "#222222", "#33557a", "#c8793a", "#999999"


@torch.inference_mode()
def film_strips(
    values: Callable[[EnvState], Tensor], environment: VectorisedCartPole, seeds: Sequence[int], device: torch.device
) -> list[bytes]:
    """PNG for each agent with frames of one greedy episode; `values` maps states to action values [agents, actions, 1]."""
    state = environment.start(seeds, "film", 1, device)
    physics, running = [state.physics], [torch.ones_like(state.steps, dtype=torch.bool)]
    while len(physics) % CHECK_EVERY or running[-1].any():
        state, terminated, truncated = environment.step(state, greedy(values(state)))
        physics.append(state.physics)
        running.append(running[-1] & ~(terminated | truncated))
    tracks = torch.stack(physics)[..., 0].permute(2, 0, 1).tolist()
    steps = torch.stack(running).sum(0).flatten().tolist()
    return [_sheet(track[: count + 1]) for track, count in zip(tracks, steps, strict=True)]


def _sheet(track: list[list[float]]) -> bytes:
    """PNG of an episode from its states, each position, velocity, angle and angular velocity."""
    shown = sorted({round(index * (len(track) - 1) / (FRAMES - 1)) for index in range(FRAMES)})
    columns = math.ceil(FRAMES / 2)
    sheet = Image.new("RGB", (columns * WIDTH, math.ceil(len(shown) / columns) * HEIGHT), "white")
    for place, step in enumerate(shown):
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

"""Greedy episodes of a stack, apart from training: no exploration, fresh starts, nothing learnt from them."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddl.rl.draws import UniformDraws
from ddl.rl.environments import EnvState, VectorisedCartPole
from ddl.rl.policies import greedy

LOOK_EVERY = 20
"""Steps between looks at whether all episodes have ended; each look waits for the device."""


def greedy_returns(
    values: Callable[[EnvState], Tensor],
    environment: VectorisedCartPole,
    seeds: list[int],
    purpose: str,
    episodes: int,
    device: torch.device,
) -> Tensor:
    """Returns [members, episodes] of the greedy policy on `values`, states -> action values [members, actions, episodes].

    The starts follow from each member's seed and `purpose`: another purpose, other episodes.
    """
    state = environment.start(UniformDraws(seeds, f"evaluation/{purpose}", episodes * environment.start_numbers, device).at(0))
    returns = torch.zeros(len(seeds), episodes, device=device)
    running = torch.ones(len(seeds), episodes, dtype=torch.bool, device=device)
    for step in range(environment.step_limit):
        state, terminated, _ = environment.step(state, greedy(values(state)))
        returns += running
        running &= ~terminated
        if step % LOOK_EVERY == 0 and not running.any():
            break
    return returns

"""Greedy evaluation: episodes without exploration that agents do not learn from."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddl.rl.environments import EnvState, VectorisedCartPole
from ddl.rl.policies import greedy

CHECK_EVERY = 20
"""Steps between checks if all episodes have ended: reading the result synchronises the device."""


@torch.inference_mode()
def greedy_returns(
    values: Callable[[EnvState], Tensor],
    environment: VectorisedCartPole,
    seeds: list[int],
    purpose: str,
    episodes: int,
    device: torch.device,
) -> Tensor:
    """Returns [agents, episodes] of the greedy policy on `values`, which maps states to action values [agents, actions, episodes].

    The start states depend on each agent's seed and `purpose`: use a new purpose for new episodes.
    """
    state = environment.start(seeds, f"evaluation/{purpose}", episodes, device)
    returns = torch.zeros(len(seeds), episodes, device=device)
    running = torch.ones(len(seeds), episodes, dtype=torch.bool, device=device)
    for step in range(environment.step_limit):
        state, terminated, _ = environment.step(state, greedy(values(state)))
        returns += running
        running &= ~terminated
        if step % CHECK_EVERY == 0 and not running.any():
            break
    return returns

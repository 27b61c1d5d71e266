"""Solved CartPole agents a minute: stacked members against a per-step loop and against RLlib's DQN.

    python benchmarks/cartpole.py [--rounds 3] [--loop-s 60] [--rllib-s 150]

Solved is the same for all: the greedy policy's mean return is at least 475 over 100 fresh episodes, and again over another 100.
All run on one thread; a clock runs from the first env step until an agent is confirmed solved, evaluations included.

- stacked: 32 members (four strategies, 8 seeds) of the task `cartpole` in one process, until all are solved. Agents a minute are the
  members solved, divided by the time the whole stack took.
- alone: the same, one member.
- loop: the study's form: one gymnasium environment, one forward pass, and one replay update of 20 transitions every step;
  Q-learning, epsilon-greedy, a network of 64-64 units, Adam at 1e-3, gamma 0.99. Cut off after --loop-s seconds.
- RLlib: its DQN with the settings of its CartPole example, sampling in this process. Cut off after --rllib-s seconds.

The contestants take turns, with new seeds in each round, and what is reported is the ratio within a round: machines drift.
A contestant cut off before it has solved anything counts as one agent in its whole time, so its ratio is a lower bound (">=").
"""

import argparse
import os
import random
import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import gymnasium
import torch
from torch import nn

from ddl import config
from ddl.rl.environments import find_environment
from ddl.rl.evaluation import greedy_returns
from ddl.rl.rllib import RLlibAgent
from ddl.rl.training import VectorisedTraining
from ddl.rl.vectorised_agents import AgentSettings, TrainingSettings
from ddl.sweeps import space
from ddl.tasks.cartpole import CartPole

CPU = torch.device("cpu")
SEEDS = 8
EVALUATE_EVERY = 3200
EVALUATE_FROM = 150.0
"""Mean training return below which nobody is evaluated: the greedy policy of such an agent is hardly ever a solution."""


@dataclass(frozen=True)
class Outcome:
    """`agents` solved of `tried` in `seconds`; `env_steps` of all agents together."""

    agents: int
    tried: int
    seconds: float
    env_steps: int

    @property
    def per_minute(self) -> float:
        return 60 * max(self.agents, 1) / self.seconds

    def __str__(self) -> str:
        bound = "" if self.agents else "< "
        return f"{self.agents} of {self.tried} solved in {self.seconds:.1f} s, {bound}{self.per_minute:.2f} a minute, {self.env_steps / self.seconds:.0f} env steps/s"


def tasks(first_seed: int) -> list[CartPole]:
    """The sweep `cartpole` at sample scale: every strategy with 8 seeds."""
    problems: list[str] = []
    sweep = config.compose_sweep("cartpole", [f"seeds={SEEDS}", f"first_seed={first_seed}"], "sample", problems)
    assert sweep is not None, problems
    return [trial.task for trial in space.expand_trials(sweep, problems)]


def stacked(members: list[AgentSettings], settings: TrainingSettings) -> tuple[Outcome, list[float | None]]:
    """The outcome, and the second in which each member was solved."""
    began = time.perf_counter()
    training = VectorisedTraining(members, replace(settings, evaluate_from=EVALUATE_FROM), CPU, stop_when_solved=True)
    env_steps = [step.env_steps for step in training.run()][-1]
    seconds = time.perf_counter() - began
    times = [score.solved["time/solved_s"] if score.solved else None for score in training.scores]
    return Outcome(sum(time is not None for time in times), len(members), seconds, env_steps * len(members)), times


def loop(seed: int, limit_s: float) -> Outcome:
    """One environment, one update a step."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    memory, written = torch.zeros(50_000, 10), 0
    batched, environment = find_environment("CartPole-v1"), gymnasium.make("CartPole-v1")
    model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    recent: deque[int] = deque(maxlen=50)

    def values(state):
        with torch.no_grad():
            return model(state.physics[:, 0].T.float()).T.unsqueeze(0)

    def mean(purpose: str) -> float:
        return greedy_returns(values, batched, [seed], purpose, 100, CPU).mean().item()

    def update() -> None:
        rows = memory[torch.randint(min(written, len(memory)), (20,))]
        seen, following, actions, failed = rows[:, :4], rows[:, 4:8], rows[:, 8:9].long(), rows[:, 9]
        with torch.no_grad():
            aim = 1 + 0.99 * (1 - failed) * model(following).amax(1)
        found = model(seen).gather(1, actions).squeeze(1)
        optimiser.zero_grad()
        nn.functional.mse_loss(found, aim).backward()
        optimiser.step()

    began, steps, agents, length = time.perf_counter(), 0, 0, 0
    seen, _ = environment.reset(seed=seed)
    while time.perf_counter() - began < limit_s and not agents:
        epsilon = max(0.02, 1 - steps / 10_000)
        if chance.random() < epsilon:
            action = chance.randrange(2)
        else:
            with torch.no_grad():
                action = int(model(torch.from_numpy(seen)).argmax())
        following, _, terminated, truncated, _ = environment.step(action)
        memory[written % len(memory)] = torch.tensor([*seen.tolist(), *following.tolist(), action, terminated])
        written += 1
        seen, steps, length = following, steps + 1, length + 1
        if terminated or truncated:
            recent.append(length)
            length = 0
            seen, _ = environment.reset()
        if written >= 20:
            update()
        if steps % EVALUATE_EVERY == 0 and statistics.fmean(recent) >= EVALUATE_FROM and mean(f"val {steps}") >= 475:
            agents = int(mean(f"confirm {steps}") >= 475)
    environment.close()
    return Outcome(agents, 1, time.perf_counter() - began, steps)


def rllib(seed: int, limit_s: float) -> Outcome:
    """Without the seconds that RLlib and Ray take to start."""
    peer = RLlibAgent("dqn", find_environment("CartPole-v1"), seed, 10**9, EVALUATE_EVERY, 100, 0)
    run: Iterator = peer.run()
    next(run)
    began, agents, step = time.perf_counter(), 0, None
    for step in run:
        agents = int(bool(step.measured) and step.measured[0]["val/solved"] == 1)
        if agents or time.perf_counter() - began > limit_s:
            break
    seconds = time.perf_counter() - began
    run.close()  # type: ignore[attr-defined]
    assert step is not None
    return Outcome(agents, 1, seconds, step.env_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop-s", type=float, default=60.0)
    parser.add_argument("--rllib-s", type=float, default=150.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread of {len(os.sched_getaffinity(0))} cores, {given.rounds} rounds")
    ratios: dict[str, list[float]] = {"loop": [], "RLlib": []}
    cut: set[str] = set()
    strategies: dict[tuple[str, str], list[float]] = {}
    alone_s, wholes = [], []
    for number in range(given.rounds):
        made = tasks(number * SEEDS)
        found, times = stacked([task.member(task.lr) for task in made], made[0].settings())
        for task, seconds in zip(made, times, strict=True):
            strategies.setdefault((task.agent, task.policy), []).append(float("inf") if seconds is None else seconds)
        wholes.append(found.seconds)
        print(f"round {number + 1}: stacked: {found}; load {os.getloadavg()[0]:.1f}", flush=True)
        for task in made[:4]:
            single, (seconds,) = stacked([task.member(task.lr)], task.settings())
            alone_s.append(float("inf") if seconds is None else seconds)
            print(f"round {number + 1}: alone, {task.agent} {task.policy}: {single}", flush=True)
        for name, peer in (("loop", loop(number, given.loop_s)), ("RLlib", rllib(number, given.rllib_s))):
            ratios[name].append(found.per_minute / peer.per_minute)
            cut |= {name} if not peer.agents else set()
            print(f"round {number + 1}: {name}: {peer}; stacked is {ratios[name][-1]:.0f} times as fast", flush=True)
    print(f"\nseconds until solved, median of {len(wholes) * SEEDS} seeds in {len(wholes)} stacks of 32:")
    for (agent, policy), seconds_each in strategies.items():
        unsolved = sum(value == float("inf") for value in seconds_each)
        print(f"  {agent:11s}{policy:15s}{statistics.median(seconds_each):6.1f}   ({unsolved} not solved)")
    print(f"whole stack of 32: median {statistics.median(wholes):.1f} s, {min(wholes):.1f} to {max(wholes):.1f}, n {len(wholes)}")
    print(f"one agent alone: median {statistics.median(alone_s):.1f} s, {min(alone_s):.1f} to {max(alone_s):.1f}, n {len(alone_s)}")
    for name, values in ratios.items():
        bound = ">= " if name in cut else ""
        print(f"stacked / {name}: median {bound}{statistics.median(values):.0f}, {min(values):.0f} to {max(values):.0f}, n {len(values)}")


if __name__ == "__main__":
    main()

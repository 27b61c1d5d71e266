"""Benchmarks of CartPole: solved agents a minute compared with two other implementations, and the gain of env runners.

    python benchmarks/cartpole.py [solved] [--rounds 3] [--loop-s 60] [--rllib-s 150]
    python benchmarks/cartpole.py env_runners [--rounds 5] [--step-ms 10]

`solved`: an agent is solved when the mean return of its greedy policy is at least 475 over 100 new episodes, and again over
another 100. Each contestant has one thread; its time runs from the first env step until the agent is confirmed as solved,
evaluations included.

- vectorised: 32 agents (four strategies, 8 seeds) of the task `cartpole` in one process, until all are solved. Agents a minute
  are the solved agents divided by the time of all 32.
- alone: the same with one agent.
- loop: as in the study, one gymnasium environment, one forward pass and one update with 20 replayed transitions per step;
  Q-learning, epsilon-greedy, a network of 64-64 units, Adam at 1e-3, gamma 0.99. Stopped after --loop-s seconds.
- RLlib: DQN with the settings of RLlib's CartPole example, sampling in this process. Stopped after --rllib-s seconds.

The contestants alternate, with new seeds in each round, and the ratio is computed within a round, because the speed of a
machine drifts. A contestant stopped before it has solved anything counts as one agent in its whole time, so its ratio is a
lower bound (">=").

`env_runners`: env steps per second of one agent with 32 environments, sampled in-process and by 2 env runners, alternated.
The environment is a synthetic slow CartPole: every step of every environment waits --step-ms milliseconds.
"""

import argparse
import contextlib
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
from ddl.rl.env_runners import make_env_runners, make_network
from ddl.rl.environments import EnvState, VectorisedCartPole, find_environment
from ddl.rl.evaluation import greedy_returns
from ddl.rl.rllib import RLlibAgent
from ddl.rl.settings import AgentSettings, TrainingSettings
from ddl.rl.vectorised_agents import VectorisedAgents
from ddl.rl.vectorised_training import VectorisedTraining
from ddl.sweeps import space
from ddl.tasks.cartpole import CartPole

CPU = torch.device("cpu")
SEEDS = 8
EVALUATE_EVERY = 3200
EVALUATE_FROM = 150.0
"""Mean training return below which an agent is not evaluated: its greedy policy hardly ever solves the environment."""


@dataclass(frozen=True)
class Outcome:
    """Number of solved `agents` among the `tried` ones after `seconds`; `env_steps` is the sum over all agents."""

    agents: int
    tried: int
    seconds: float
    env_steps: int

    @property
    def per_minute(self) -> float:
        """Solved agents a minute; at least one is assumed."""
        return 60 * max(self.agents, 1) / self.seconds

    def __str__(self) -> str:
        bound = "" if self.agents else "< "
        return f"{self.agents} of {self.tried} solved in {self.seconds:.1f} s, {bound}{self.per_minute:.2f} a minute, {self.env_steps / self.seconds:.0f} env steps/s"


def tasks(first_seed: int) -> list[CartPole]:
    """Tasks of the sweep `cartpole` at sample scale: every strategy with 8 seeds."""
    problems: list[str] = []
    sweep = config.compose_sweep("cartpole", [f"seeds={SEEDS}", f"first_seed={first_seed}"], "sample", problems)
    assert sweep is not None, problems
    return [trial.task for trial in space.expand_trials(sweep, problems)]


def vectorised(agents: list[AgentSettings], settings: TrainingSettings) -> tuple[Outcome, list[float | None]]:
    """The outcome, and the seconds after which each agent was solved."""
    began = time.perf_counter()
    training = VectorisedTraining(agents, replace(settings, evaluate_from=EVALUATE_FROM), CPU, stop_when_solved=True)
    env_steps = [step.env_steps for step in training.run()][-1]
    seconds = time.perf_counter() - began
    times = [score.solved["time/solved_s"] if score.solved else None for score in training.scores]
    return Outcome(sum(time is not None for time in times), len(agents), seconds, env_steps * len(agents)), times


def loop(seed: int, limit_s: float) -> Outcome:
    """Train one agent in one environment, with one update per step."""
    torch.manual_seed(seed)
    generator = random.Random(seed)
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
        observations, next_observations, actions, terminated = rows[:, :4], rows[:, 4:8], rows[:, 8:9].long(), rows[:, 9]
        with torch.no_grad():
            targets = 1 + 0.99 * (1 - terminated) * model(next_observations).amax(1)
        q_values = model(observations).gather(1, actions).squeeze(1)
        optimiser.zero_grad()
        nn.functional.mse_loss(q_values, targets).backward()
        optimiser.step()

    began, steps, agents, length = time.perf_counter(), 0, 0, 0
    observation, _ = environment.reset(seed=seed)
    while time.perf_counter() - began < limit_s and not agents:
        epsilon = max(0.02, 1 - steps / 10_000)
        if generator.random() < epsilon:
            action = generator.randrange(2)
        else:
            with torch.no_grad():
                action = int(model(torch.from_numpy(observation)).argmax())
        next_observation, _, terminated, truncated, _ = environment.step(action)
        memory[written % len(memory)] = torch.tensor([*observation.tolist(), *next_observation.tolist(), action, terminated])
        written += 1
        observation, steps, length = next_observation, steps + 1, length + 1
        if terminated or truncated:
            recent.append(length)
            length = 0
            observation, _ = environment.reset()
        if written >= 20:
            update()
        if steps % EVALUATE_EVERY == 0 and statistics.fmean(recent) >= EVALUATE_FROM and mean(f"val {steps}") >= 475:
            agents = int(mean(f"confirm {steps}") >= 475)
    environment.close()
    return Outcome(agents, 1, time.perf_counter() - began, steps)


def rllib(seed: int, limit_s: float) -> Outcome:
    """Train RLlib's DQN. The time that RLlib and Ray take to start is not counted."""
    agent = RLlibAgent("dqn", find_environment("CartPole-v1"), seed, 10**9, EVALUATE_EVERY, 100, 0)
    run: Iterator = agent.run()
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


@dataclass(frozen=True)
class SyntheticSlowCartPole(VectorisedCartPole):
    """CartPole in which every step of every environment waits `step_s` seconds, as for a simulator outside the process.

    The environments of one process wait one after another.
    """

    step_s: float

    def step(self, state: EnvState, actions: torch.Tensor) -> tuple[EnvState, torch.Tensor, torch.Tensor]:
        time.sleep(self.step_s * actions.numel())
        return super().step(state, actions)


def env_runners(rounds: int, step_s: float, steps: int = 20) -> None:
    """Print the sampling rates without env runners and with 2, alternated, and their ratio in each round."""
    task = tasks(0)[0]
    environment = SyntheticSlowCartPole("synthetic slow CartPole", 500, 475.0, step_s)
    agents = VectorisedAgents([AgentSettings.of(task)], CPU)
    with contextlib.ExitStack() as stack:
        samplers = []
        for number in (0, 2):
            settings = replace(TrainingSettings.of(task), num_env_runners=number)
            samplers.append(stack.enter_context(make_env_runners(agents, settings, environment)))
        parameters = make_network(agents, settings).initial(agents.seeds)
        state = environment.start(agents.seeds, "benchmark", task.envs, CPU)
        for sampler in samplers:
            sampler.sample(parameters, state, 0, 1)  # starts the processes
        ratios = []
        for number in range(rounds):
            rates = []
            for sampler in samplers:
                began, current = time.perf_counter(), state
                for step in range(steps):
                    current = sampler.sample(parameters, current, step, 1).state
                rates.append(steps * task.envs / (time.perf_counter() - began))
            ratios.append(rates[1] / rates[0])
            text = f"in-process {rates[0]:.0f} env steps/s, 2 env runners {rates[1]:.0f}, ratio {ratios[-1]:.2f}"
            print(f"round {number + 1}: {text}; load {os.getloadavg()[0]:.1f}", flush=True)
    span = f"{min(ratios):.2f} to {max(ratios):.2f}, n {rounds}"
    print(f"2 env runners / in-process, {step_s * 1000:g} ms per env step: median {statistics.median(ratios):.2f}, {span}")


def solved(rounds: int, loop_s: float, rllib_s: float) -> None:
    """Print the solved agents a minute of every contestant, and the ratios."""
    ratios: dict[str, list[float]] = {"loop": [], "RLlib": []}
    stopped: set[str] = set()
    strategies: dict[tuple[str, str], list[float]] = {}
    alone_s, totals = [], []
    for number in range(rounds):
        made = tasks(number * SEEDS)
        outcome, times = vectorised([AgentSettings.of(task) for task in made], TrainingSettings.of(made[0]))
        for task, seconds in zip(made, times, strict=True):
            strategies.setdefault((task.agent, task.policy), []).append(float("inf") if seconds is None else seconds)
        totals.append(outcome.seconds)
        print(f"round {number + 1}: vectorised: {outcome}; load {os.getloadavg()[0]:.1f}", flush=True)
        for task in made[:4]:
            single, (seconds,) = vectorised([AgentSettings.of(task)], TrainingSettings.of(task))
            alone_s.append(float("inf") if seconds is None else seconds)
            print(f"round {number + 1}: alone, {task.agent} {task.policy}: {single}", flush=True)
        for name, other in (("loop", loop(number, loop_s)), ("RLlib", rllib(number, rllib_s))):
            ratios[name].append(outcome.per_minute / other.per_minute)
            stopped |= {name} if not other.agents else set()
            print(f"round {number + 1}: {name}: {other}; vectorised is {ratios[name][-1]:.0f} times as fast", flush=True)
    print(f"\nseconds until solved, median of {len(totals) * SEEDS} seeds in {len(totals)} groups of 32:")
    for (agent, policy), seconds_each in strategies.items():
        unsolved = sum(value == float("inf") for value in seconds_each)
        print(f"  {agent:11s}{policy:15s}{statistics.median(seconds_each):6.1f}   ({unsolved} not solved)")
    print(f"all 32 agents: median {statistics.median(totals):.1f} s, {min(totals):.1f} to {max(totals):.1f}, n {len(totals)}")
    print(f"one agent alone: median {statistics.median(alone_s):.1f} s, {min(alone_s):.1f} to {max(alone_s):.1f}, n {len(alone_s)}")
    for name, values in ratios.items():
        bound = ">= " if name in stopped else ""
        print(
            f"vectorised / {name}: median {bound}{statistics.median(values):.0f}, {min(values):.0f} to {max(values):.0f}, n {len(values)}"
        )


def main() -> None:
    """Parse the arguments and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="?", choices=("solved", "env_runners"), default="solved")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop-s", type=float, default=60.0)
    parser.add_argument("--rllib-s", type=float, default=150.0)
    parser.add_argument("--step-ms", type=float, default=10.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread of {len(os.sched_getaffinity(0))} cores, {args.rounds} rounds")
    if args.benchmark == "solved":
        solved(args.rounds, args.loop_s, args.rllib_s)
    else:
        env_runners(args.rounds, args.step_ms / 1000)


if __name__ == "__main__":
    main()

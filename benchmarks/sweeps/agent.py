"""A Q-learning or SARSA agent on CartPole, and its training by both baselines, with the network, policy and updates of the task."""

import copy
from collections.abc import Iterator

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sweeps.workloads import Metrics, Trial
from ddl.rl.environments import ORDER_ONE

SCALE = np.array(ORDER_ONE, dtype=np.float32)


class Agent:
    """Newest, target and average network, Adam, and the replay buffer. Observations are float32 [n, 4], as gymnasium returns them."""

    def __init__(self, trial: Trial):
        self.trial = trial
        torch.manual_seed(trial["seed"])
        self.random = np.random.default_rng(trial["seed"])
        layers: list[nn.Module] = []
        for inputs, outputs in zip([4, *trial["hidden"]], trial["hidden"], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        last = nn.Linear(trial["hidden"][-1], 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.newest = nn.Sequential(*layers, last)
        self.target, self.average = copy.deepcopy(self.newest), copy.deepcopy(self.newest)
        self.optimiser = torch.optim.Adam(self.newest.parameters(), lr=trial["lr"], fused=True)
        self.scale, self.offset = 1 / (1 - trial["gamma"]), 1.0 if trial["optimistic"] else 0.0
        self.lr_factor, self.updates, self.stored = 1.0, 0, 0
        self.replay = torch.zeros(trial["replay_size"], 11)

    def values(self, network: nn.Module, observations: Tensor) -> Tensor:
        """Action values [n, 2] of scaled observations."""
        return self.scale * (self.offset + network(observations))

    def choose(self, values: Tensor, env_steps: int) -> np.ndarray:
        """Actions [n] of the exploring policy."""
        trial = self.trial
        if trial["policy"] == "softmax":
            return torch.multinomial(torch.softmax(values / trial["temperature"], 1), 1).squeeze(1).numpy()
        epsilon = np.interp(env_steps, [0, trial["epsilon_decay_steps"]], [trial["epsilon_start"], trial["epsilon_end"]])
        explores = self.random.random(len(values)) < epsilon
        return np.where(explores, self.random.integers(2, size=len(values)), values.argmax(1).numpy())

    @torch.no_grad()
    def act(self, observations: np.ndarray, env_steps: int) -> np.ndarray:
        """Actions [n] in training."""
        return self.choose(self.values(self.newest, torch.from_numpy(observations * SCALE)), env_steps)

    def store(self, observations: np.ndarray, actions: np.ndarray, after: np.ndarray, terminated: np.ndarray) -> None:
        """Add n transitions to the replay buffer, in place of the oldest ones. The reward is 1."""
        rows = np.column_stack([observations * SCALE, after * SCALE, actions, np.ones(len(actions)), terminated])
        places = (self.stored + torch.arange(len(rows))) % len(self.replay)
        self.replay[places] = torch.from_numpy(rows).float()
        self.stored += len(rows)

    def learn(self, env_steps: int) -> None:
        """Make the updates that are due after `env_steps`: as many per env step as the task makes."""
        trial = self.trial
        per_rollout = trial["envs"] * trial["rollout_steps"]
        due = max(env_steps - trial["learning_starts"] + per_rollout, 0) * trial["updates"] // per_rollout
        while env_steps >= trial["learning_starts"] and self.updates < due:
            self._update(env_steps)

    def _update(self, env_steps: int) -> None:
        trial = self.trial
        rows = self.replay[torch.randint(min(self.stored, len(self.replay)), (trial["batch_size"],))]
        observations, after, actions, rewards, terminated = rows[:, :4], rows[:, 4:8], rows[:, 8].long(), rows[:, 9], rows[:, 10]
        outputs = self.newest(observations).gather(1, actions.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            following = self.values(self.target, after)
            if trial["agent"] == "sarsa":
                chosen = torch.from_numpy(self.choose(following, env_steps))
                bootstrap = following.gather(1, chosen.unsqueeze(1)).squeeze(1)
            else:
                bootstrap = following.amax(1)
            old = self.scale * (self.offset + outputs)
            targets = old + trial["alpha"] * (rewards + trial["gamma"] * (1 - terminated) * bootstrap - old)
            targets = targets.clamp(0, self.scale) / self.scale - self.offset
        for group in self.optimiser.param_groups:
            group["lr"] = trial["lr"] * self.lr_factor * (1 - (1 - trial["lr_end"]) * env_steps / trial["env_steps"])
        self.optimiser.zero_grad()
        (0.5 * F.mse_loss(outputs, targets)).backward()
        self.optimiser.step()
        self.updates += 1
        with torch.no_grad():
            newest = list(self.newest.parameters())
            torch._foreach_lerp_(list(self.target.parameters()), newest, trial["target_rate"])
            torch._foreach_lerp_(list(self.average.parameters()), newest, max(trial["average_rate"], 1 / self.updates))

    def solve(self) -> None:
        """Continue from the average weights, at the learning rate of a solved environment."""
        self.newest.load_state_dict(self.average.state_dict())
        self.target.load_state_dict(self.average.state_dict())
        self.lr_factor = self.trial["lr_solved"]


class Evaluations:
    """Greedy evaluations of an agent, and its best weights."""

    def __init__(self, agent: Agent):
        trial = agent.trial
        self.agent, self.episodes = agent, trial["evaluation_episodes"]
        self.envs = gymnasium.make_vec(trial["environment"], num_envs=self.episodes, vectorization_mode="vector_entry_point")
        self.envs.reset(seed=trial["seed"] + 10_000)
        self.threshold = gymnasium.spec(trial["environment"]).reward_threshold
        self.best, self.weights, self.solved = -1.0, copy.deepcopy(agent.average), False

    @torch.no_grad()
    def greedy_return(self, network: nn.Module) -> float:
        """Mean return over new episodes, all stepped at once."""
        observations, _ = self.envs.reset()
        running, returns = np.ones(self.episodes, dtype=bool), np.zeros(self.episodes)
        while running.any():
            actions = network(torch.from_numpy(observations * SCALE)).argmax(1).numpy()
            observations, _, terminated, truncated, _ = self.envs.step(actions)
            returns += running
            running &= ~(terminated | truncated)
        return float(returns.mean())

    def evaluate(self) -> Metrics:
        """Evaluate the average weights; if they reach the threshold for the first time, confirm it over further episodes."""
        value = self.greedy_return(self.agent.average)
        if value > self.best:
            self.best, self.weights = value, copy.deepcopy(self.agent.average)
        if not self.solved and value >= self.threshold and self.greedy_return(self.agent.average) >= self.threshold:
            self.solved = True
            self.agent.solve()
        return {"val/episode_return": value}

    def test(self) -> Metrics:
        """The last evaluation, and the return of the best weights over new episodes."""
        return self.evaluate() | {"test/episode_return": self.greedy_return(self.weights)}


def evaluations(agent: Agent, train: Iterator[int]) -> Iterator[Metrics]:
    """Metrics of the untrained agent, after every `evaluate_every` env steps of `train`, which yields their number, and at the end."""
    evaluation, every, total = Evaluations(agent), agent.trial["evaluate_every"], agent.trial["env_steps"]
    yield evaluation.evaluate()
    before = 0
    for env_steps in train:
        if env_steps >= total:
            yield evaluation.test()
            return
        if env_steps // every > before // every:
            yield evaluation.evaluate()
        before = env_steps


def train_step_by_step(trial: Trial) -> Iterator[Metrics]:
    """Train one agent in one environment, step by step; yields the metrics of each evaluation."""
    agent = Agent(trial)

    def steps() -> Iterator[int]:
        env = gymnasium.make(trial["environment"])
        observation, _ = env.reset(seed=trial["seed"])
        for env_steps in range(1, trial["env_steps"] + 1):
            action = agent.act(observation[None], env_steps - 1)
            after, _, terminated, truncated, _ = env.step(int(action[0]))
            agent.store(observation[None], action, after[None], np.array([terminated]))
            observation = env.reset()[0] if terminated or truncated else after
            agent.learn(env_steps)
            yield env_steps

    yield from evaluations(agent, steps())


def train_batched(trial: Trial) -> Iterator[Metrics]:
    """Train one agent in all its environments at once; yields the metrics of each evaluation."""
    agent = Agent(trial)

    def steps() -> Iterator[int]:
        envs = gymnasium.make_vec(trial["environment"], num_envs=trial["envs"], vectorization_mode="vector_entry_point")
        observations, _ = envs.reset(seed=trial["seed"])
        running, env_steps = np.ones(trial["envs"], dtype=bool), 0
        while True:
            actions = agent.act(observations, env_steps)
            after, _, terminated, truncated, _ = envs.step(actions)
            # The step after the end of an episode starts the next one, and is no transition.
            agent.store(observations[running], actions[running], after[running], terminated[running])
            env_steps += int(running.sum())
            observations, running = after, ~(terminated | truncated)
            agent.learn(env_steps)
            yield env_steps

    yield from evaluations(agent, steps())

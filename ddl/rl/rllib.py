"""RLlib's DQN and PPO on its new API stack, evaluated like ddl's agents: greedy, in the same environments.

The settings are those of RLlib's CartPole examples (ray-project/ray, rllib/examples/algorithms/{dqn/cartpole_dqn,
ppo/cartpole_ppo}.py). One difference: RLlib's PPO example samples in 4 processes; here `num_env_runners` is an argument, and
0 samples in this process.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl.env_runners import private_ray
from ddl.rl.environments import EnvState, VectorisedCartPole
from ddl.rl.evaluation import greedy_returns
from ddl.rl.scores import RECENT, solved_metrics
from ddl.rl.training import TrainingStep

DQN_EPSILON = (1.0, 0.02, 25_000)
"""Start and end of epsilon, and the env steps of its decay."""

DQN_STEPS = 200
"""Env steps between two yields; RLlib's default of 1,000 takes seconds."""

ALGORITHMS = ("dqn", "ppo")

_MODULE = "default_policy"
"""RLlib's name for the only network."""


class RLlibAgent:
    """One RLlib algorithm, with the interface of `training.Training` for one agent.

    RLlib has its own random streams: a run from the start repeats, but a resumed run continues from the weights with a new
    optimiser and an empty replay buffer, so it differs from an uninterrupted one.
    """

    def __init__(
        self,
        algorithm: str,
        environment: VectorisedCartPole,
        seed: int,
        env_steps: int,
        evaluate_every: int,
        episodes: int,
        num_env_runners: int,
    ):
        """Raises ValueError if `algorithm` is not one of `ALGORITHMS`."""
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: {algorithm!r} is unknown. Use {' or '.join(ALGORITHMS)}.")
        self._name, self.environment, self._seed, self.device = algorithm, environment, seed, torch.device("cpu")
        self._env_steps, self._every, self._episodes, self._num_env_runners = env_steps, evaluate_every, episodes, num_env_runners
        self._done, self._seconds, self._ended = 0, 0.0, 0
        self._recent: float | None = None
        self._solved: dict[str, float] | None = None
        self._weights: dict[str, Tensor] = {}
        self._algorithm: Any = None

    @property
    def parameters_per_agent(self) -> int:
        """Number of parameters of the network that acts. Available while `run` is iterated."""
        return sum(weight.numel() for weight in self._algorithm.get_module().parameters())

    def run(self) -> Iterator[TrainingStep]:
        """Train up to the last env step and yield after every iteration. A new training also yields a first evaluation."""
        with private_ray(max(self._num_env_runners, 1)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # RLlib's own deprecations
            logging.getLogger("ray").setLevel(logging.ERROR)
            self._algorithm = algorithm = self._config().build_algo()
            try:
                if self._weights:
                    self._load_weights()
                offset, ended = self._done, self._ended
                if offset == 0:
                    yield self._step(self._measure())
                while self._done < self._env_steps:
                    began = time.perf_counter()
                    before = self._done
                    result = algorithm.train()["env_runners"]
                    self._done = offset + int(result["num_env_steps_sampled_lifetime"])
                    self._seconds += time.perf_counter() - began
                    self._ended = ended + int(result.get("num_episodes_lifetime", 0))
                    self._recent = latest_return(result, self._recent)
                    due = self._done // self._every > before // self._every or self._done >= self._env_steps
                    yield self._step(self._measure() if due else {})
            finally:
                algorithm.stop()

    def _config(self) -> Any:
        from ray.rllib.algorithms.dqn import DQNConfig
        from ray.rllib.algorithms.ppo import PPOConfig
        from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

        if self._name == "dqn":
            start, end, steps = DQN_EPSILON
            now = start + (end - start) * min(self._done / steps, 1)
            left = max(steps - self._done, 1)
            config = DQNConfig().training(
                lr=0.0005,
                train_batch_size_per_learner=32,
                replay_buffer_config={"type": "PrioritizedEpisodeReplayBuffer", "capacity": 50_000, "alpha": 0.6, "beta": 0.4},
                n_step=(2, 5),
                double_q=True,
                dueling=True,
                epsilon=[(0, now), (left, end)],
            )
            config = config.reporting(min_sample_timesteps_per_iteration=DQN_STEPS, min_time_s_per_iteration=0)
            model = DefaultModelConfig(
                fcnet_hiddens=[256],
                fcnet_activation="tanh",
                fcnet_bias_initializer="zeros_",
                head_fcnet_hiddens=[256],
                head_fcnet_bias_initializer="zeros_",
            )
            envs = 1
        else:
            config = PPOConfig().training(lr=0.0003, num_epochs=6, vf_loss_coeff=0.01)
            model = DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="linear", vf_share_layers=True)
            envs = 16
        config = config.environment(self.environment.name).rl_module(model_config=model).learners(num_learners=0)
        config = config.env_runners(num_env_runners=self._num_env_runners, num_envs_per_env_runner=envs, num_cpus_per_env_runner=0)
        config = config.reporting(metrics_num_episodes_for_smoothing=RECENT)
        return config.debugging(seed=self._seed, log_level="ERROR")

    def _measure(self) -> dict[int, dict[str, float]]:
        started = time.perf_counter()
        mean = self.greedy(f"val {self._done}")
        threshold = self.environment.solved_return
        if mean >= threshold and self._solved is None and self.greedy(f"confirm {self._done}") >= threshold:
            self._solved = solved_metrics(self._done, self._ended, self._seconds + time.perf_counter() - started)
        evaluate_s = time.perf_counter() - started
        self._seconds += evaluate_s
        metrics = {"train/env_steps": float(self._done), "train/episodes": float(self._ended), "time/evaluate_s": evaluate_s}
        metrics |= {"val/episode_return": mean, "val/solved": float(self._solved is not None)}
        if self._recent is not None:
            metrics |= {"train/episode_return": float(self._recent), "time/env_steps_per_s": self._done / self._seconds}
        return {0: metrics | (self._solved or {})}

    def greedy(self, purpose: str) -> float:
        """Mean greedy return; use a new `purpose` for new episodes."""
        return greedy_returns(self.best_values(), self.environment, [self._seed], purpose, self._episodes, self.device).mean().item()

    def best_values(self) -> Callable[[EnvState], Tensor]:
        """Function from states to numbers [1, actions, envs] that are highest for the greedy action, of the last weights.

        RLlib does not keep the best weights.
        """
        module = self._algorithm.get_module()

        def values(state: EnvState) -> Tensor:
            with torch.no_grad():
                out = module.forward_inference({"obs": state.physics[:, 0].T.float().contiguous()})
            if "actions" in out:
                return torch.nn.functional.one_hot(out["actions"], VectorisedCartPole.actions).T.unsqueeze(0).float()
            return out["action_dist_inputs"].T.unsqueeze(0)

        return values

    def _step(self, measured: dict[int, dict[str, float]]) -> TrainingStep:
        return TrainingStep(self._done, measured, {}, None, self.state)

    def state(self, agent: int = 0) -> State:
        """State of the only agent for a checkpoint: weights and counters."""
        weights = self._algorithm.learner_group.get_weights()[_MODULE]
        return {
            "weights": {name: torch.from_numpy(np.array(value)) for name, value in weights.items()},
            "env_steps": self._done,
            "seconds": self._seconds,
            "episodes": self._ended,
            "recent": self._recent,
            "solved": self._solved,
        }

    def load(self, states: Sequence[State]) -> None:
        """Restore the `state` of the only agent."""
        (state,) = states
        self._weights, self._done, self._seconds = state["weights"], state["env_steps"], state["seconds"]
        self._ended, self._recent, self._solved = state["episodes"], state["recent"], state["solved"]

    def _load_weights(self) -> None:
        learners = self._algorithm.learner_group
        learners.set_weights({_MODULE: {name: value.numpy() for name, value in self._weights.items()}})
        self._algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=learners, inference_only=True)


def latest_return(result: Mapping[str, Any], before: float | None) -> float | None:
    """Mean return of the recent episodes in RLlib's `result`, or `before` if no episode ended: RLlib then leaves it out or has NaN."""
    mean = result.get("episode_return_mean")
    return before if mean is None or not math.isfinite(mean) else float(mean)

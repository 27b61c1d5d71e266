"""Small agents and settings for the tests of `ddl.rl`."""

from dataclasses import replace
from typing import Any

from ddl.rl.settings import AgentSettings, TrainingSettings

AGENT = AgentSettings(
    seed=0,
    agent="q_learning",
    policy="epsilon_greedy",
    temperature=0.025,
    epsilon_start=1.0,
    epsilon_end=0.02,
    epsilon_decay_steps=6000,
    lr=1e-2,
    gamma=0.99,
    alpha=1.0,
)

SETTINGS = TrainingSettings(
    environment="CartPole-v1",
    hidden=(32,),
    optimistic=True,
    envs=16,
    rollout_steps=1,
    updates=1,
    batch_size=32,
    replay_size=4000,
    learning_starts=64,
    env_steps=1600,
    lr_end=0.1,
    lr_solved=0.0,
    target_rate=0.2,
    average_rate=0.05,
    evaluate_every=800,
    evaluation_episodes=8,
    num_env_runners=0,
    runner_timeout_s=None,
)

STRATEGIES = [(agent, policy) for agent in ("q_learning", "sarsa") for policy in ("epsilon_greedy", "softmax")]


def agents(seeds: int) -> list[AgentSettings]:
    """The four strategies for each seed, with different hyperparameters."""
    made = []
    for seed in range(seeds):
        for number, (agent, policy) in enumerate(STRATEGIES):
            changed = {"lr": 1e-2 / (1 + number), "gamma": 0.99 - 0.01 * seed, "temperature": 0.025 * (1 + number), "alpha": 1 - 0.1 * seed}
            made.append(replace(AGENT, seed=seed, agent=agent, policy=policy, **changed))
    return made


def settings(**changed: Any) -> TrainingSettings:
    """`SETTINGS` with some changed."""
    return replace(SETTINGS, **changed)

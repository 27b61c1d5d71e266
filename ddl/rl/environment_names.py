"""The environments that have a batched implementation, by their names in gymnasium."""

ENVIRONMENTS = {"CartPole-v0": (200, 195.0), "CartPole-v1": (500, 475.0)}
"""Step limit and mean return that counts as solved of each, as registered by gymnasium."""


def known_environment(name: str) -> str:
    """The same `name`. Raises ValueError, with the reason, if there is no batched environment with this name."""
    if name in ENVIRONMENTS:
        return name
    import gymnasium

    supported = " or ".join(ENVIRONMENTS)
    try:
        environment = gymnasium.make(name)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"gymnasium cannot make {name!r} ({error}). Use {supported}.") from error
    space = environment.action_space
    environment.close()
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(f"{name} has continuous actions ({space}), but these agents need discrete ones. Use {supported}.")
    raise ValueError(f"{name} has no batched implementation. Use {supported}.")

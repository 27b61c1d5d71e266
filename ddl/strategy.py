"""The ways in which several processes hold one model."""

from typing import Literal

Strategy = Literal["ddp", "fsdp"]
"""`ddp` replicates the model in every process, `fsdp` shards every parameter."""

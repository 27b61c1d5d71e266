"""Check of ddl on a GPU: correctness, speed and planning, in one command (`python -m benchmarks.gpu`)."""

"""Device usage of a trial: CPU, memory and GPU."""

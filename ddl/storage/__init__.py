"""Copies of runs at a URL (`s3://bucket/runs`, `file:///mnt/runs`, any scheme of fsspec).

The URL has the same layout as `runs/`: `<sweep>/<date-time>/` with the ledger, results and report, and
`trials/<trial id>/checkpoints/`. Every file is written to a local folder first and uploaded in the background, so a slow or
unreachable store never slows training; what it lacks at the end is reported. Credentials come from the environment, never
from the URL.
"""

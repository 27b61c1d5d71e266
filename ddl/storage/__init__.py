"""Runs kept at a URL (`s3://bucket/runs`, `file:///mnt/runs`, whatever fsspec knows), beside the local folders they are made in.

Below the URL stands what stands below `runs/`: `<sweep>/<date-time>/` with the ledger, results and report, and
`trials/<trial id>/checkpoints/`. Everything is written locally first and copied in the background, so a store that is slow or
away slows nobody; what it lacks in the end is named. Credentials come from the environment, never from the URL.
"""

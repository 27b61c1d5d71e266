"""Whole sweeps from Enter to the report, compared with two programs written without ddl."""

"""The same training code swept with ddl, Ray Tune and Optuna, and the lines of code that each needs."""

"""Runs: all runs and experiments in one table, to be found, named, tagged, compared and deleted."""

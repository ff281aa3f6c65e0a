"""Campaigns: one thing that goes wrong, done many times in a row, to see how often covseg does not stand it.

A campaign is a module of this package with

    WHAT      one line: what is done
    FULL      how often `make campaign` does it
    SMALL     how often `make test` does it
    SECONDS   for how long the full one may go on; then it is ended, which counts as a failure
    TRAINS    whether it trains, or imports the framework
    run(count, seed) -> Row     does it; the same seed does the same

It finds empty folders for data and runs in the environment, starts nothing that it does not end, and reaches nothing
but this machine. What went wrong it returns instead of raising, so that one failure does not end the campaign.
"""

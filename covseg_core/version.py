"""The version of covseg, said once."""

__version__ = "0.1.0"

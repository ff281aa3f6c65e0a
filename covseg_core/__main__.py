"""`python -m covseg_core`: the same as `covseg`."""

from covseg_core.cli import main

if __name__ == "__main__":
    main()

"""Places: where the process of a run runs. `local` is this machine's queue, any other name in `places.toml` is SLURM.

A place knows the folder of a run, not what stands in it: `submit` it, ask whether it is `listed`, `cancel` it. That
folder, on a file system that all machines share, stays the only truth about where the run stands. `place.json` in it
names kind, host and job.
"""

from covseg_core.places.place import LOCAL, SLURM, Placed, read_placed, write_placed
from covseg_core.places.settings import Local, Slurm, place_named, place_names

__all__ = ["LOCAL", "SLURM", "Local", "Placed", "Slurm", "place_named", "place_names", "read_placed", "write_placed"]

"""The page Review: masks one by one, to be accepted, corrected or rejected, and how far readers agree."""

"""From files to slices: reading, checking, pairing, splitting and caching scans and masks. Imports no framework."""

"""From a user's file to the slices that a network is given: reading, library, slices, splitting, phantom."""

"""The network and its training, the only room that imports a framework; the worker's process alone comes in here."""

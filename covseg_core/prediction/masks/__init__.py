"""Masks and nothing else: connected parts, the chest's hull, right and left lung, where models disagree."""

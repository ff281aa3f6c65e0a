"""Core of covseg: from CT scans and infection masks to trained, compared U-Nets.

The package never imports streamlit. Modules that handle data (volumes, intensity, slices, cache, ...) never import
modules that handle models (unet, metrics, training, ...), so that reading a scan does not cost a TensorFlow import.
"""

__version__ = "0.1.0"

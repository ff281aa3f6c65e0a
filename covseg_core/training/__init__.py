"""The U-Net and its training. Only here, and in the worker, is Keras imported."""

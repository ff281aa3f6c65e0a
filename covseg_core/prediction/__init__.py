"""The mask of a new scan through ONNX Runtime, and its report."""

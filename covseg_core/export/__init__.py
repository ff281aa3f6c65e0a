"""Runs as other tools read them: TensorBoard and MLflow."""

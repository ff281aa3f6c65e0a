"""Live curves: loss and score while runs train, what the model sees after each epoch, stop and resume."""

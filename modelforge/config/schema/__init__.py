"""The settings of a training run: types, bounds, defaults, labels and help texts."""

"""Groups of weights with learning rates of their own, the optimizer Muon, and the schedule."""

"""One file a closed-form way from one set of vectors to another; see `lift.linear.Solver`."""

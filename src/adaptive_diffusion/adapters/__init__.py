"""How a trajectory is fed: from a diffusers pipeline, or from a loop of the user's own."""

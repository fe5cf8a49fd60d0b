"""Learning the policies: reinforcement learning of the Memory Manager and the Answer Agent from outcomes."""

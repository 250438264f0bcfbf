"""The training loop: optimisers, schedules, states, logs, and the trainer."""

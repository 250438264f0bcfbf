"""Training recipes as data: one YAML file per experiment, see `hear_train.recipes`."""

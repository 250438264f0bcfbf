"""Objectives: losses of labels and of distillation, and the teachers of the latter."""

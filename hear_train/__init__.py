"""Training: distillation of a large tagger into a small one, from audio files.

The way of the data is the list of modules: `clips` (files to waveforms), `waveforms`, `synthesis`
and `mixing` (waveforms to what is heard in training), `teachers` (what a teacher says of it),
`lessons` (batches of both), `losses`, `schedule`, `trainer` (the loop), `logs`, and `distill`,
which puts them together. `choosing` picks sounds for a further training, and `measure` says how
near a student is to its teacher.
"""

"""Training: distillation of a large tagger into a small one, from audio files.

The way of the data is the list of modules: `clips` (files to waveforms), `waveforms` and `mixing`
(waveforms to what is heard in training), `teachers` (what a teacher says of it), `lessons` (batches
of both), `losses`, `schedule`, `trainer` (the loop), `logs`, and `distill`, which puts them
together. `measure` says how near a student is to its teacher.
"""

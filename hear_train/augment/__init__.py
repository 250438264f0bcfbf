"""Augmentation of waveforms and log-mel spectrograms; targets are mixed along with the sounds."""

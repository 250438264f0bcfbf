"""Front-ends: waveform to log-mel spectrogram."""

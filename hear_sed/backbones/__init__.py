"""Frame-wise backbones."""

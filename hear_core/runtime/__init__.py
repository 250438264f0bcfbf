"""Engines that run an extractor: torch and ONNX Runtime."""

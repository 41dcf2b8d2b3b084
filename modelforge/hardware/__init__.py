"""Probe this computer: GPUs, processor, memory and installed software."""

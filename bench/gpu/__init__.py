"""Measures speed, memory and equality with the CPU on one GPU: `bench/gpu.sh`."""

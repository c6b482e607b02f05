"""Measurements that seqbench's pages quote and that need more than seqbench: see README.md."""

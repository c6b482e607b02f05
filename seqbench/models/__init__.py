"""Mixers, the backbone they stand in, and sizing by parameters. The model registry finds every module here."""

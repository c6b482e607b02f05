"""Regression benchmarks: two revisions measured side by side, and what changed over many commits (`trend`)."""

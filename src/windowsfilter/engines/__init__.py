"""Engines: what the Host Compute Service is to Docker, behind one contract."""

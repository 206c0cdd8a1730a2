"""Scratches: an upper directory read, edited, told as changes and written as a layer.

Rules: docs/formats/scratch.md. Reading order: `upper`, `merge`, `walk`, then `export`, `changes`, `edit`.
"""

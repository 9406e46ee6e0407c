"""albor-pipeline: one manifest for machines and a model ladder."""

__version__ = "0.1.0"

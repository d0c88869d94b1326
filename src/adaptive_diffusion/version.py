"""The version, for whatever needs it without the rest of the package."""

__all__ = ["__version__"]

__version__ = "0.1.0"

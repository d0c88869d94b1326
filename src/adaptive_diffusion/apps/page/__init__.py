"""The web page: full and accelerated runs side by side, as they are made."""

"""Programs made of the library: the command line."""

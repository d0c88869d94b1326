"""The commands, a file for each; `app` has all of them.

What is slow to import (torch, diffusers, matplotlib) is imported inside the functions: help comes
at once, and a missing extra is found before any work is done.
"""

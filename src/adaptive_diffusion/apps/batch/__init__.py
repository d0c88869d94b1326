"""`adaptive-diffusion batch`: many pictures from a file, so that a killed run goes on.

Every picture is written under a key of what decides it. What has a picture is done, whoever made it
and when; there is no other state.
"""

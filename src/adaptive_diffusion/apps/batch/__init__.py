"""`adaptive-diffusion batch`: many pictures from a file, and a killed run can be continued.

Every picture is written under a key of what decides it. What has a picture is done, whoever made it
and when; there is no other state.
"""

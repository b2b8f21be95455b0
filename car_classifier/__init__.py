"""What the scripts share: one step of the data's way per module."""

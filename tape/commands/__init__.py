"""The commands of `tape`, one module each; what they do is done elsewhere."""

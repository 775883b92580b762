"""The pure folds that turn the log into decisions, and the hosts that run them."""

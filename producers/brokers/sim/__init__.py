"""The simulated broker as a service of its own: accounts, orders and books behind HTTP."""

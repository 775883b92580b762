"""What stands between the log and a broker: the order gateway, and an adapter for each broker."""

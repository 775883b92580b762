"""Alert rules: what on a log a person should be told of."""

from processors.alerts.rules import RULES, BreakerRule, FeedRule, OrderRule, RoleRule

__all__ = ["RULES", "BreakerRule", "FeedRule", "OrderRule", "RoleRule"]

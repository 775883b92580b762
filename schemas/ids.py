"""Identities: what a cause or a trace refers to.

A market event is TOPIC/PARTITION/OFFSET (market offsets have no holes and are the same in every
store); every other fact has an `id` of its own; a decision is ACCOUNT:SEQ.
"""

from __future__ import annotations

import hashlib

CLIENT_ORDER_ID_MAX = 48
PREFIX_LENGTH = 6


def decision_id(account: str, seq: int) -> str:
    """ACCOUNT:SEQ."""
    return f"{account}:{seq}"


def client_order_id(log_prefix: str, account: str, seq: int) -> str:
    """The id an order bears at the broker: short log id, account, seq; at most 48 characters."""
    made = f"{log_prefix}-{account}-{seq}"
    if len(made) > CLIENT_ORDER_ID_MAX:
        raise ValueError(f"client order id {made} is longer than {CLIENT_ORDER_ID_MAX} characters")
    return made


def log_prefix(log_id: str) -> str:
    """The short log id that begins every client order id of the log."""
    return log_id[:PREFIX_LENGTH]


def digest(*parts: bytes) -> str:
    """BLAKE2b-256 over length-prefixed parts, in hexadecimal."""
    rolling = hashlib.blake2b(digest_size=32)
    for part in parts:
        rolling.update(len(part).to_bytes(8, "big"))
        rolling.update(part)
    return rolling.hexdigest()

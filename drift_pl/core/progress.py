"""What a command shows of its work."""


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"

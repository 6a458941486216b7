"""The image's health check: exit code 0 where a part of Persistor answers at its usual port."""

import sys
from urllib.request import urlopen

PERSIST, INDEX, API = "2112/metrics", "2122/metrics", "8080/healthz"


def answers(place: str) -> bool:
    """Whether this port takes requests."""
    try:
        with urlopen(f"http://127.0.0.1:{place}", timeout=3) as response:
            return response.status == 200
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not any(answers(place) for place in (PERSIST, INDEX, API)))

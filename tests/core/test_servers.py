"""Addresses of servers: which ones are refused, before anything is loaded or sent."""

import pytest

from drift_pl.core.errors import UserError
from drift_pl.core.servers import check_url

LONG = "a" * 63


@pytest.mark.parametrize(
    "host",
    [
        *("256.256.256.256", "1.2.3.999", "-a.com", "a-.com", "-\u00e9-.com", "a..b", ".a", "a b", "a%20b", "a,b"),
        *(f"{LONG}a.com", "\u00e9" * 63 + ".com", "[::1%]"),
    ],
)
def test_a_host_that_cannot_exist_is_named_at_once(host: str) -> None:
    """Catches in core/servers.py: hosts not looked at; numbers above 255; empty or long labels; hyphens at an end."""
    for scheme in ("http", "https"):
        with pytest.raises(UserError) as caught:
            check_url(f"{scheme}://{host}:8001/score?key=SECRET", "evaluation.args")
        message = str(caught.value)
        assert message.startswith("evaluation.args.url")
        assert message.endswith("give one such as http://127.0.0.1:8001/score")
        assert "SECRET" not in message
        assert "\n" not in message
        assert len(message) < 250


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "my_judge", "my-judge", "a--b.com", "3com.com", "127.0.0.1", "127.1"),
        *("[::1]", "[fe80::1%eth0]", "b\u00fccher.de", "\u0939\u093f\u0928\u094d\u0926\u0940.com", f"{LONG}.com"),
    ],
)
def test_a_host_that_may_exist_passes(host: str) -> None:
    """Catches in core/servers.py: underscores, IPv6, letters of other scripts, or a label of 63 refused."""
    assert check_url(f"http://{host}:8001/score").port == 8001
    assert check_url(f"HTTPS://{host}").scheme == "https"


@pytest.mark.parametrize(
    "url", [" http://a/", "http://a/\n", "\thttp://a/", "http://a\tb/", "http://a/\udcff", None, 3]
)
def test_what_a_client_reads_otherwise_is_no_url(url: str) -> None:
    """Catches in core/servers.py: spaces and line ends that `urlsplit` drops left to the first request."""
    with pytest.raises(UserError, match=r"^rewards\.args\.url is not a url; give one such as http://127"):
        check_url(url)

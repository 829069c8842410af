"""JSON over HTTP: concurrent requests, retries with exponential back-off, one deadline for all of them."""

import concurrent.futures
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlunsplit

import httpx2
import tenacity

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line
from drift_pl.core.servers import check_url, read_token
from drift_pl.scoring.http_answers import Transient, seconds_asked, start_of

Part = TypeVar("Part")
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 30.0
LARGEST_ANSWER = 16 * 2**20
"""Bytes of an answer that are read; scores of a thousand images are a few kilobytes."""


@dataclass
class Call:
    """State shared by the requests of one call.

    Attributes:
        deadline: on the monotonic clock, seconds.
        stop: set once no further request should start.
        failures: errors of requests that failed permanently, in order; later ones may result from the first.
    """

    deadline: float
    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[UserError] = field(default_factory=list)

    def fail(self, error: UserError) -> UserError:
        self.failures.append(error)
        self.stop.set()
        return error


class TooLate(tenacity.stop.stop_base):
    """Stop condition: the next attempt would start after the deadline, on the monotonic clock."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        return time.monotonic() + state.upcoming_sleep >= self.deadline


class JsonClient:
    """Client that sends and receives JSON.

    The token is read from the environment at each call and never stored, so it is in no configuration, checkpoint or
    error message; where a server repeats it, it is masked or the answer not shown.

    Args:
        url: http or https. Errors show it without its query; it must not contain a user name or password.
        token_env: name of the environment variable whose content is sent as a bearer token; None for no token.
        concurrency: number of concurrent requests.
        attempts: maximum attempts per request; retried if the connection fails or the server answers 408, 425, 429,
            500, 502, 503 or 504.
        first_wait_s: seconds before the second attempt; doubled before each further one, up to 30, or the
            server's Retry-After.
        timeout_s: seconds of server inactivity after which an attempt fails.
        deadline_s: seconds for all requests of one call.
        expected: the expected response, for error messages.
        setting: the section with these arguments, for error messages.

    Raises:
        UserError: the url or a number is invalid, or the environment variable is not set.
    """

    def __init__(
        self,
        url: str,
        token_env: str | None,
        concurrency: int,
        attempts: int,
        first_wait_s: float,
        timeout_s: float,
        deadline_s: float,
        expected: str,
        setting: str = "rewards.args",
    ) -> None:
        split = check_url(url, setting)
        try:
            httpx2.URL(url)
        except (httpx2.InvalidURL, UnicodeError) as error:  # what the library alone refuses
            raise UserError(
                f"{setting}.url cannot be used ({first_line(error)}); give one such as http://127.0.0.1:8001/score"
            ) from error
        positive = {"concurrency": concurrency, "attempts": attempts, "timeout_s": timeout_s, "deadline_s": deadline_s}
        for name, value in positive.items():
            if not value > 0:
                raise UserError(f"{setting}.{name}={value} must be positive, such as 4")
        if not first_wait_s >= 0:
            raise UserError(f"{setting}.first_wait_s={first_wait_s} must not be negative, such as 0.5")
        self.url, self.token_env = url, token_env
        self.shown_url = urlunsplit((split.scheme, split.netloc, split.path, "", ""))
        self.concurrency, self.attempts = concurrency, attempts
        self.first_wait_s, self.timeout_s, self.deadline_s = first_wait_s, timeout_s, deadline_s
        self.expected, self.setting = expected, setting
        self._token()

    def post_all(self, body: Callable[[Part], Any], parts: Sequence[Part]) -> list[Any]:
        """The server's responses to `body(part)` for each part, in the order of the parts.

        Raises:
            UserError: a request failed permanently, or the deadline passed; the other requests are cancelled.
        """
        call = Call(time.monotonic() + self.deadline_s)
        pool = concurrent.futures.ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge")
        limits = httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        # a separate connection pool per call: nothing is shared with a forked or later process
        with httpx2.Client(headers=self._headers(), limits=limits) as client:
            try:
                futures = [pool.submit(self._post, client, body, part, call) for part in parts]
                left = call.deadline - time.monotonic()
                _, late = concurrent.futures.wait(futures, left, return_when=concurrent.futures.FIRST_EXCEPTION)
                if call.failures:
                    raise call.failures[0]
                for future in futures:  # what broke a request in a way that is no failure of the server's
                    if future.done() and (error := future.exception()) is not None:
                        raise error
                if late:
                    raise self._deadline_passed("requests were still pending")
                return [future.result() for future in futures]
            finally:
                call.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def error(self, problem: str) -> UserError:
        """One line that names the server."""
        return UserError(f"{self.setting}.url={self.shown_url}: {problem}")

    def unexpected(self, answer: Any, what: str = "") -> UserError:
        """An error that shows the start of the response and the expected one."""
        shown = start_of(str(answer), self._token())
        return self.error(f"answered with {what}{shown}; expected status 200 and {self.expected}")

    def _post(self, client: httpx2.Client, body: Callable[[Part], Any], part: Part, call: Call) -> Any:
        if call.stop.is_set():  # another request failed permanently before this one started
            raise self.error("given up")
        content = body(part)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=self._wait_s,
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self.attempts),
                tenacity.stop_when_event_set(call.stop),
                TooLate(call.deadline),
            ),
            sleep=tenacity.sleep_using_event(call.stop),
            reraise=True,
        )
        try:
            return retrying(self._attempt, client, content, call)
        except UserError as error:
            raise call.fail(error) from error.__cause__
        except Transient as error:
            attempts = retrying.statistics["attempt_number"]
            raise call.fail(self._no_further(error, attempts, call.deadline)) from error

    def _no_further(self, last: Transient, attempts: int, deadline: float) -> UserError:
        """The error after the last of all attempts, or of those that the deadline allows."""
        if attempts >= self.attempts:
            remedy = "start the server, or give the url of one that runs"
            if last.said:
                more = f"{self.setting}.attempts={2 * self.attempts}"
                remedy = f"see the server's log, or give {more} if it is only busy"
            return self.error(f"no answer in {attempts} attempts ({last}){last.said}; {remedy}")
        state = f"last of {attempts} attempts: {last}{last.said}"
        if not last.wait_s or time.monotonic() + last.wait_s < deadline:
            return self._deadline_passed(state)
        limit, left = f"{self.setting}.deadline_s=", "" if last.wait_s > self.deadline_s else "what is left of "
        return self.error(
            f"the server asks to wait {last.wait_s:.0f} s, longer than {left}{limit}{self.deadline_s:g} ({state}); "
            f"give {limit}{last.wait_s + self.deadline_s:.0f}, or start again later"
        )

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: doubled each time, or more if the server requests it."""
        backoff = tenacity.wait_exponential(multiplier=self.first_wait_s, max=LONGEST_WAIT_S)
        asked = state.outcome.exception() if state.outcome else None
        return max(backoff(state), asked.wait_s if isinstance(asked, Transient) else 0.0)

    def _attempt(self, client: httpx2.Client, content: Any, call: Call) -> Any:
        if call.stop.is_set():  # the wait was ended by another request's failure
            raise self.error("given up")
        left = min(self.timeout_s, call.deadline - time.monotonic())
        if left <= 0:
            raise Transient("no time left")
        timeout = httpx2.Timeout(left, pool=None)  # each thread has its connection; none waits for another's
        try:
            with client.stream("POST", self.url, json=content, timeout=timeout) as response:
                answer = self._read(response, call)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            # the message quotes a part of a garbled answer, which may hold the token
            reason = start_of(str(error) or "no reason given", self._token())
            raise Transient(f"{type(error).__name__}: {reason}") from error
        status, text = f"status {response.status_code}", answer.decode("utf-8", errors="replace")
        if response.status_code in RETRIED_STATUS:
            said = f": the server said {start_of(text, self._token()) if text.strip() else 'nothing'}"
            raise Transient(status, said, seconds_asked(response.headers.get("retry-after")))
        if not response.is_success:
            raise self.unexpected(text, f"{status} and ")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self.unexpected(text, "no JSON: ") from error

    def _read(self, response: httpx2.Response, call: Call) -> bytearray:
        """The answer's content, as far as it is of a sensible size.

        Raises:
            UserError: it is not.
        """
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > LARGEST_ANSWER:
                raise self.error(
                    f"answered with more than {LARGEST_ANSWER // 2**20} MiB; expected status 200 and {self.expected}"
                )
            if call.stop.is_set():
                raise self.error("given up")
        return content

    def _deadline_passed(self, state: str) -> UserError:
        return self.error(
            f"not answered within {self.setting}.deadline_s={self.deadline_s:g} ({state}); "
            "give more time, or ask for less in a request"
        )

    def _headers(self) -> dict[str, str]:
        token = self._token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _token(self) -> str | None:
        return read_token(self.token_env, self.setting)

"""What the log says of an attempt to renew; `context` is what every line says of the role, `due` the next attempt."""

import logging

from imds_proxy.credentials import Credentials, timestamp
from imds_proxy.renewal.attempt import Failure, Held

log = logging.getLogger(__name__)

_CLOCK_SKEW_WORTH_A_WORD = 60.0
_FAILURE_AGAIN = 30.0  # seconds


def works_again(context: dict[str, str], failures: int) -> None:
    """The first success after failures."""
    log.info("renewal works again", extra=context | {"failures": failures})


def same_again(context: dict[str, str], due: float) -> None:
    """The source has handed out the session that is held already."""
    log.debug("the same session again", extra=context | {"next": timestamp(due)})


def renewed(context: dict[str, str], credentials: Credentials, due: float) -> None:
    """A new session is held."""
    log.info(
        "credentials renewed",
        extra=context
        | {
            "key": f"…{credentials.key_hint}",
            "session": credentials.session_arn or "not said by its source",
            "expires": timestamp(credentials.expiration),
            "next": timestamp(due),
        },
    )


def clock_skew(skew: float) -> None:
    """AWS's clock is `skew` seconds ahead of this host's; said only where that matters."""
    if abs(skew) > _CLOCK_SKEW_WORTH_A_WORD:
        log.warning("this host's clock is off", extra={"seconds_behind_aws": round(skew)})


class FailureLog:
    """The failures of one role: one that is like the last is said again after a while only.

    Where clients wait for credentials, attempts are two seconds apart.

    Args:
        context: What every line says of the role.
    """

    def __init__(self, context: dict[str, str]) -> None:
        self._context = context
        self._said: tuple[str, str, bool] | None = None
        self._at = 0.0

    def failed(self, failure: Failure, failures: int, live: Held | None, due: float) -> None:
        """The last of so many attempts in a row brought nothing; an error only where nothing can be served either."""
        said = failure.outcome, failure.message, live is not None
        is_news = said != self._said or not 0 <= failure.at - self._at < _FAILURE_AGAIN
        if is_news:
            self._said, self._at = said, failure.at
        log.log(
            (logging.WARNING if live else logging.ERROR) if is_news else logging.DEBUG,
            "renewal failed",
            extra=self._context
            | {
                "outcome": failure.outcome,
                "error": failure.message,
                "advice": failure.advice,
                "failures": failures,
                "serving": f"…{live.credentials.key_hint} until {timestamp(live.credentials.expiration)}"
                if live
                else "none",
                "next": timestamp(due),
            },
        )

"""What the log says of an attempt to renew; `context` is what every line says of the role, `due` the next attempt."""

import logging

from imds_proxy.credentials import Credentials, timestamp
from imds_proxy.renewal.outcome import Failure, Held

log = logging.getLogger(__name__)

_CLOCK_SKEW_WORTH_A_WORD = 60.0


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


def failed(context: dict[str, str], failure: Failure, failures: int, live: Held | None, due: float) -> None:
    """An attempt brought nothing, the last of so many in a row; an error only where nothing can be served either."""
    log.log(
        logging.WARNING if live else logging.ERROR,
        "renewal failed",
        extra=context
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

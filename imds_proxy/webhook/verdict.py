"""From a review to a verdict, and a line in the log for each pod that asked: what it got, or why it did not.

Fails open or closed, as told: a pod that cannot be given what its account asks for, or of whose account that is not
known, is made without it and with a warning, or is refused.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from imds_proxy.webhook.accounts import UnreadableError
from imds_proxy.webhook.annotations import Defaults, Injection, RefusedError, asks, injection
from imds_proxy.webhook.patch import Patch, patch_of
from imds_proxy.webhook.pod import Pod
from imds_proxy.webhook.review import Review, Verdict

log = logging.getLogger(__name__)

FindAccount = Callable[[tuple[str, str]], Awaitable[Mapping[str, str] | None]]
"""Namespace and name in, annotations out, None for no such account; raises UnreadableError."""


class Judge:
    """Decides on pods.

    Args:
        find: Finds the annotations of a service account.
        defaults: What is injected where no annotation says otherwise.
        fails_open: Whether pods that cannot be injected are made without it.
    """

    def __init__(self, find: FindAccount, defaults: Defaults, *, fails_open: bool) -> None:
        self._find = find
        self._defaults = defaults
        self._fails_open = fails_open

    async def verdict(self, review: Review, within: float) -> Verdict:
        """What happens to the pod.

        Args:
            review: The question.
            within: Seconds that the service account is waited for: a late answer is none.
        """
        if (pod := review.pod) is None:
            return Verdict()
        extra = {"namespace": review.namespace, "pod": pod.name, "service_account": pod.account}
        try:
            account = await self._account(review.namespace, pod, within)
            if account is None:
                return _without(extra, f"there is no service account {review.namespace}/{pod.account}")
            if not asks(account):
                return Verdict()
            if pod.left_alone:
                return _without(extra, pod.left_alone)
            return _with(extra, pod, injection(account, pod.annotations, self._defaults))
        except RefusedError as error:
            return self._failed(extra, error.message, HTTPStatus.FORBIDDEN)
        except UnreadableError as error:
            reason = f"service account {review.namespace}/{pod.account} could not be read: {error.message}"
            return self._failed(extra, reason, HTTPStatus.SERVICE_UNAVAILABLE)

    async def _account(self, namespace: str, pod: Pod, within: float) -> Mapping[str, str] | None:
        try:
            async with asyncio.timeout(within):
                return await self._find((namespace, pod.account))
        except TimeoutError:
            raise UnreadableError(f"not within {within:g} s") from None

    def _failed(self, extra: dict[str, str], reason: str, code: int) -> Verdict:
        if self._fails_open:
            return _without(extra, reason)
        log.warning("pod refused", extra=extra | {"reason": reason})
        return Verdict(allowed=False, code=code, message=f"imds-proxy: {reason}")


def _with(extra: dict[str, str], pod: Pod, wanted: Injection) -> Verdict:
    patch: Patch = patch_of(pod, wanted)
    if not patch.operations:
        log.debug("pod has all that would be injected", extra=extra)
        return Verdict()
    details = {"role": wanted.role, "audience": wanted.audience, "expiration": wanted.expiration}
    log.info("pod injected", extra=extra | details | {"containers": " ".join(patch.containers)})
    warnings = [f"imds-proxy: {text}" for text in patch.warnings]
    return Verdict(operations=patch.operations, warnings=warnings, audit={"role": wanted.role})


def _without(extra: dict[str, str], reason: str) -> Verdict:
    log.warning("pod without AWS credentials", extra=extra | {"reason": reason})
    return Verdict(warnings=[f"imds-proxy: no AWS credentials are injected: {reason}"])

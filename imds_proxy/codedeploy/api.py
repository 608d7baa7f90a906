"""CodeDeploy's API, called with an operator's credentials.

In: a profile, a region, an instance's name. Out: what CodeDeploy has about it. Errors: Denied (with the statement that
the operator's policy needs), Unreachable, Throttled, Invalid; RefusedError, with AWS's code, for what CodeDeploy itself
refuses. "RegisterOnPremisesInstance", "AddTagsToOnPremisesInstances", "RemoveTagsFromOnPremisesInstances",
"GetOnPremisesInstance" and "DeregisterOnPremisesInstance" of the CodeDeploy API reference.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError
from yarl import URL

from imds_proxy.aws import endpoint_setting, refusals
from imds_proxy.aws.call import Call
from imds_proxy.aws.guarded_http import InTheClearError
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.aws.settings import region_of
from imds_proxy.aws.signing_guard import SigningGuard, watch
from imds_proxy.config.http_role import is_private_channel
from imds_proxy.credentials import Secret
from imds_proxy.errors import Denied, ImdsProxyError, Invalid, SourceError, Unreachable
from imds_proxy.host.proxy import environment_proxy
from imds_proxy.host.redaction import hidden

_METADATA_PROVIDERS: Final = ("iam-role", "container-role")
_LABEL: Final = "codedeploy"
# What botocore raises where a file, a helper or a service says something that nobody expected.
_UNEXPECTED: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError)
_NOT_PERMITTED: Final = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
    defaults_mode="legacy",  # "auto" would ask the instance metadata for its region
)


class RefusedError(ImdsProxyError):
    """CodeDeploy said no to what was asked, not to who asked. `code` is AWS's name for why."""

    def __init__(self, code: str, message: str, advice: str) -> None:
        super().__init__(message, advice)
        self.code = code


class CodeDeploy:
    """The calls about on-premises instances.

    Args:
        profile: The operator's AWS profile; None: as the AWS SDKs choose one.
        region: None: the environment's or the profile's.

    Raises:
        SourceError: There is no such profile, or no region.
        ConfigError: What the environment or the profile has for one is none.
    """

    def __init__(self, profile: str | None, region: str | None) -> None:
        try:
            self._session, self._guard = _session(profile)
            endpoint_setting.check(self._session, "codedeploy")
            self._client = self._session.create_client(
                "codedeploy", region_name=region or region_of(self._session), config=_CONFIG
            )
        except (BotoCoreError, SettingError, OSError, *_UNEXPECTED) as error:
            raise _told(error, _call("a client of CodeDeploy"), profile) from None
        self._profile = profile

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call, by AWS's name of it.

        Raises:
            RefusedError: CodeDeploy refuses what was asked.
            SourceError: There are no credentials, they may not, or there is no answer.
        """
        call = _call(f"codedeploy:{operation}", self._guard)
        try:
            answer: dict[str, Any] = getattr(self._client, xform_name(operation))(**parameters)
        except ClientError as error:
            raise _refused(error, operation, call) or _told(error, call, self._profile) from None
        except (BotoCoreError, ResponseParserError, OSError, *_UNEXPECTED) as error:
            broken = endpoint_setting.is_broken(self._session) if isinstance(error, _UNEXPECTED) else None
            raise _told(broken or error, call, self._profile) from None
        return answer


def _session(profile: str | None) -> tuple[Any, SigningGuard]:
    session = botocore.session.Session(profile=profile)
    session.register("before-send", _check_way)
    guard = watch(session, "the operator's AWS credentials", blocking=True)
    _keep_from_metadata(session.get_component("credential_provider"))
    return session, guard


def _check_way(request: Any, **_: Any) -> None:
    """Any endpoint may come from the environment or a profile, and the proxy does."""
    if not is_private_channel(request.url):
        raise HTTPClientError(error=InTheClearError(URL(request.url)))
    try:
        environment_proxy(request.url)
    except Invalid as error:
        raise HTTPClientError(error=SettingError(error)) from None


def _keep_from_metadata(resolver: Any) -> None:
    """An operator's credentials are never the ones that this host's own daemon serves."""
    for name in _METADATA_PROVIDERS:
        resolver.remove(name)
    assume_role = next(provider for provider in resolver.providers if provider.METHOD == "assume-role")
    sourcer = assume_role._credential_sourcer  # noqa: SLF001 - a profile may name them too, by credential_source
    sourcer._providers = [p for p in sourcer._providers if p.METHOD not in _METADATA_PROVIDERS]  # noqa: SLF001


def _refused(error: ClientError, operation: str, call: Call) -> RefusedError | None:
    """CodeDeploy's own exceptions; None for what any AWS service may say."""
    code = refusals.code_and_text(error)[0]
    if code not in _ADVICE:
        return None
    return RefusedError(code, f"{operation}: {refusals.words(error, call)}", _ADVICE[code])


def _call(action: str, sent: Iterable[Secret | str] = ()) -> Call:
    return Call(_LABEL, action, sent=sent)


def _told(error: Exception, call: Call, profile: str | None) -> SourceError:
    """Any other failure, in words for an operator."""
    action = call.action
    option = f" --profile {profile}" if profile else ""
    if isinstance(error, NoRegionError):
        return Invalid("no region to call CodeDeploy in", "give --region REGION")
    if isinstance(error, NoCredentialsError):
        return Denied(f"{action}: no AWS credentials", "give --profile NAME, of an operator who may register instances")
    if isinstance(error, ProfileNotFound):
        return Invalid(
            f"there is no AWS profile {hidden(profile)!r}", "aws configure list-profiles shows those that there are"
        )
    if isinstance(error, ClientError) and refusals.code_and_text(error)[0] in _NOT_PERMITTED:
        statement = json.dumps({"Effect": "Allow", "Action": [action], "Resource": ["*"]})
        return Denied(f"{action}: {refusals.words(error, call)}", f"the operator's policy needs: {statement}")
    if isinstance(error, (CredentialRetrievalError, *_UNEXPECTED)):  # its text may hold what a helper printed
        what = f"the operator's credentials cannot be had ({type(error).__name__})"
        return Denied(f"{action}: {what}", f"aws sts get-caller-identity{option} shows what to mend")
    return _as_any_call(error, call, f"aws sts get-caller-identity{option} shows whether the credentials are good")


def _as_any_call(error: Exception, call: Call, by_hand: str) -> SourceError:
    told = refusals.translate(error, call)
    message = told.message.removeprefix(f'role "{_LABEL}": ')
    if isinstance(error, ClientError):
        is_theirs = isinstance(told, Unreachable)
        return type(told)(message, "nothing here: AWS has a fault of its own; run this again" if is_theirs else by_hand)
    network = "check DNS, route, firewall, HTTPS_PROXY and AWS_CA_BUNDLE, then run this again"
    return type(told)(message, network if isinstance(told, Unreachable) else told.advice)


_LIST: Final = "aws deploy list-on-premises-instances"
_ADVICE: Final = {
    "IamSessionArnAlreadyRegisteredException": f"one session ARN is one instance: {_LIST} shows the names",
    "IamUserArnAlreadyRegisteredException": f"one ARN is one instance: {_LIST} shows the names",
    "InstanceNameAlreadyRegisteredException": "imds-proxy codedeploy show says for whom",
    "InstanceNotRegisteredException": f"imds-proxy codedeploy register first, or correct the name: {_LIST}",
    "InvalidIamSessionArnException": "it is the ARN of a session: imds-proxy status shows it",
    "InvalidInstanceNameException": "1 to 100 letters, digits and . _ + = , @ -",
    "InvalidTagException": "write KEY=VALUE, with both",
    "TagLimitExceededException": "an instance has 10 tags at most: imds-proxy codedeploy untag",
    "TagRequiredException": "give --tag KEY=VALUE",
    "InstanceLimitExceededException": "run it again for fewer instances",
    "InstanceNameRequiredException": "give --instance-name NAME",
    "IamArnRequiredException": "give --session-arn ARN",
    "MultipleIamArnsProvidedException": "give one ARN",
}

"""`imds-proxy check`: this host as the daemon's user would find it. Nobody is asked, nothing is written or run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imds_proxy.callers.grant_warnings import remarks
from imds_proxy.cli import check_listeners, check_paths, check_sandbox, check_sources
from imds_proxy.cli.check_finding import Finding
from imds_proxy.cli.check_salvage import salvage
from imds_proxy.cli.check_unit import SERVICE, passed_by_units, unit_of
from imds_proxy.cli.check_user import judge
from imds_proxy.config.model import Config
from imds_proxy.config.types import MINUTE


class Host:
    """This host, for one config file.

    Args:
        path: Of the config file.
        user: Whom to judge as; None: whom the unit names, or whoever asks.
        offline: Whether nobody may be asked, systemd included.
    """

    def __init__(self, path: Path, user: str | None, *, offline: bool) -> None:
        self._path = path
        self._offline = offline
        self._unit = unit_of(path)
        self._judge = judge(user, self._unit)

    @property
    def judged_as(self) -> str:
        """Whom it is judged as, in words."""
        return self._judge.why

    def findings(self, config: Config, *, sources: bool) -> Iterator[Finding]:
        """What the daemon would miss here. From here on this process is the user that is judged as.

        Args:
            config: What it is for.
            sources: Whether to look at what roles need; not where each is tried besides.
        """
        held, passed = check_listeners.holders(config), passed_by_units()
        self._judge.become()
        yield from check_listeners.findings(config, self._judge, held, passed, offline=self._offline)
        yield from check_paths.findings(config, self._judge, self._path)
        if self._unit is not None:
            yield from check_sandbox.findings(config, self._unit.sandbox, SERVICE)
        if sources:
            yield from check_sources.findings(config)
        for text in remarks(config):
            yield Finding((), text, is_remark=True)
        max_age = config.renewal.max_age
        if max_age is not None and max_age < MINUTE:
            often = f"every role is renewed every {max_age} s, which STS may throttle: a minute or more is usual"
            yield Finding(("renewal", "max_age"), often, is_remark=True)

    def beside_mistakes(self, data: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        """The same for a config with mistakes: what to say of it, and each finding as (key path, what is wrong)."""
        rest = salvage(data)
        if rest is None:
            return "", []
        found = [rest.in_file(each) for each in self.findings(rest.config, sources=True) if not each.is_remark]
        lines = [(each.path, _in_one(each)) for each in found if each is not None]
        plural = "finding" if len(lines) == 1 else "findings"
        return (f"; on this host {len(lines)} {plural} ({self.judged_as})" if lines else ""), lines


def _in_one(finding: Finding) -> str:
    return f"{finding.what}\n    → {finding.advice}" if finding.advice else finding.what

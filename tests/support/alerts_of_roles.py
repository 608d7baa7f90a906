"""Situations of a role's credentials, and which alerts they raise."""

from collections.abc import Iterator

from support.promtool import GONE, HOUR, MINUTE, Situation
from support.simulated_host import healthy
from support.simulated_role import Away, Figures, lived, scraped

LABELS = 'job="imds-proxy",instance="web1:9338",role="deploy"'
_SECOND = 1.0
_LIVES = {"15 minutes": 15 * MINUTE, "an hour": HOUR, "12 hours": 12 * HOUR}
_BEFORE, _AFTER = -30.0, 60.0  # of a moment, as evaluations every 30 seconds can tell
_OVERDUE, _SOON, _EXPIRED = {"RenewalOverdue"}, {"RenewalOverdue", "CredentialsExpireSoon"}, {"CredentialsExpired"}


def situations() -> Iterator[Situation]:
    """All of them."""
    for says, life in _LIVES.items():
        yield _healthy(f"sessions of {says} in health", life)
        yield _outage(f"AWS goes away from sessions of {says}", life)
        yield _denial(f"AWS denies sessions of {says}", life)
        yield _short_outage(f"AWS is away for a sixth of what sessions of {says} have for a renewal", life)
    yield _healthy("leases of five minutes in health", 5 * MINUTE)
    yield _comes_back()
    yield _never(denied=False)
    yield _never(denied=True)
    yield _late_start()
    yield _idle()
    yield _restart()
    yield _reset()


def _host(says: str, series: dict, fires: list, step: float = 30.0) -> Situation:
    """The roles of hosts that are well."""
    count = max(map(len, series.values()))
    hosts = {name.split('instance="')[1].split('"')[0] for name in series}
    for host in hosts:
        series = healthy(count, host) | series
    return Situation(says, series, fires, step)


def moments(last: Figures) -> tuple[float, float]:
    """When RenewalOverdue and CredentialsExpireSoon fire, with the alerts' own wait of a minute."""
    there_was = last.end - last.due
    warned = last.due + max(there_was / 6, MINUTE)
    woken = max(last.end - min(max(there_was / 2, 6 * MINUTE), 2 * HOUR), last.due + MINUTE)
    return warned + MINUTE, woken + MINUTE


def _healthy(says: str, life: float) -> Situation:
    """Five roles, each with its own jitter, scraped as seldom as is usual."""
    step = 60.0
    until = max(1.5 * life, 3 * HOUR)
    series = {}
    for seed in range(5):
        labels = LABELS.replace("deploy", f"role-{seed}")
        series |= scraped(lived(life, until, Away(), seed), until, step=step, labels=labels)
    return _host(says, series, [(until, set())], step)


def _outage(says: str, life: float) -> Situation:
    figures = lived(life, 2 * life, Away(begin=10.0))
    (warned, woken), after = moments(figures[-1]), 2 * _step(life)
    expired = figures[-1].end + MINUTE
    fires = [(warned + _BEFORE, set()), (warned + after, _OVERDUE), (woken + _BEFORE, _OVERDUE)]
    fires += [(woken + after, _SOON), (expired + _BEFORE - MINUTE, _SOON), (expired + after, _EXPIRED)]
    return _after_trouble(says, life, 1.2 * life, figures, fires)


def _after_trouble(says: str, life: float, until: float, figures: list[Figures], fires: list) -> Situation:
    step = _step(life)
    return _host(says, scraped(figures, until, step=step, labels=LABELS), fires, step)


def _step(life: float) -> float:
    """Of long lives fewer samples, which promtool takes long for."""
    return 30.0 if life <= HOUR else 60.0


def _denial(says: str, life: float) -> Situation:
    """Told of before the renewal is late, where there is time."""
    figures = lived(life, 1.5 * life, Away(begin=10.0, denied=True))
    told = figures[-1].due + 30 * _SECOND + 2 * MINUTE
    _, woken = moments(figures[-1])
    denied = {"RenewalDenied"}
    fires = [(told + _BEFORE - MINUTE, set())]
    fires += [(told + _AFTER, denied)] if life > 15 * MINUTE else []
    fires += [(woken + 2 * _AFTER, _SOON | denied), (figures[-1].end + 2.5 * MINUTE, _EXPIRED | denied)]
    return _after_trouble(says, life, 1.2 * life, figures, fires)


def _short_outage(says: str, life: float) -> Situation:
    """The backoff is at most a minute, and an alert waits for one: nobody hears of it."""
    due = lived(life, 10.0, Away())[-1].due
    window = life + _SECOND - due
    figures = lived(life, 2 * life, Away(begin=due - 1, end=due + window / 6 - 30))
    return _after_trouble(says, life, 1.5 * life, figures, [(1.5 * life, set())])


def _comes_back() -> Situation:
    """An outage that ends with three minutes left: what fires, ends."""
    life = HOUR
    away = Away(begin=10.0, end=life - 3 * MINUTE)
    figures = lived(life, 2 * life, away)
    back = figures[-1].at if figures[-1].succeeded == 2 else next(each.at for each in figures if each.succeeded == 2)
    series = scraped(figures, life + 20 * MINUTE, labels=LABELS)
    return _host("AWS comes back three minutes before the end", series, [(back - 30, _SOON), (back + 60, set())])


def _never(*, denied: bool) -> Situation:
    figures = lived(HOUR, HOUR, Away(begin=0.0, end=40 * MINUTE, denied=denied))
    back = next(each.at for each in figures if each.succeeded)
    fires = [(4.5 * MINUTE, set()), (6 * MINUTE, {"CredentialsNeverObtained"}), (back + MINUTE, set())]
    if denied:
        also = {"RenewalDenied"}
        fires = [(MINUTE, set()), (4 * MINUTE, also), (6 * MINUTE, {"CredentialsNeverObtained"} | also), fires[-1]]
    says = f"a new host {'is denied its role' if denied else 'cannot reach AWS'}"
    return _host(says, scraped(figures, HOUR, labels=LABELS), fires)


def _late_start() -> Situation:
    """A network that comes three and a half minutes after the host."""
    figures = lived(HOUR, HOUR, Away(begin=0.0, end=3.5 * MINUTE))
    return _host("a new host reaches AWS late", scraped(figures, HOUR, labels=LABELS), [(HOUR, set())])


def _idle() -> Situation:
    """A role on demand that nobody asks for any more shows nothing, though its last session ends."""
    series = scraped(lived(HOUR, 2 * HOUR, Away()), 2 * HOUR, labels=LABELS)
    for name, values in series.items():
        if "credential_" in name:
            series[name] = [*values, *([GONE] * 480)]
        else:
            series[name] = [*values, *(values[-1:] * 480)]
    return _host("nobody asks for a role on demand any more", series, [(6 * HOUR, set())])


def _restart() -> Situation:
    """The saved session and its schedule go on; for a minute there is no scrape."""
    series = scraped(lived(HOUR, 3 * HOUR, Away()), 3 * HOUR, labels=LABELS)
    for values in series.values():
        values[100:102] = [GONE, GONE]
    for name in series:
        if "renewals_total" in name:
            series[name] = [*series[name][:102], *(value - series[name][101 - 2] for value in series[name][102:])]
    return _host("a daemon is started again", series, [(3 * HOUR, set())])


def _reset() -> Situation:
    """A counter that begins anew after a restart has not grown."""
    series = scraped(lived(HOUR, HOUR, Away()), HOUR, labels=LABELS)
    name = next(name for name in series if 'outcome="denied"' in name)
    series[name] = [7.0] * 55 + [0.0] * (len(series[name]) - 55)
    return _host("a counter of denials begins anew at zero", series, [(HOUR, set())])


SITUATIONS = list(situations())

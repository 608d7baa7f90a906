"""Situations of a daemon and its host, certificate, key and files: one thing is wrong, and one alert tells of it."""

from collections.abc import Iterator, Sequence

from support.promtool import DAY, GONE, HOUR, MINUTE, Situation
from support.simulated_host import healthy, series

STEP = 30.0
_QUARTER = 900.0
_CERTIFICATE = 'imds_proxy_certificate_expiration_timestamp_seconds{L,role="deploy"}'
_LISTENER = 'imds_proxy_listener_up{L,address="169.254.169.254:80"}'
_BASE_KEY = "imds_proxy_base_key_created_timestamp_seconds{L}"


def situations() -> Iterator[Situation]:
    """All of them."""
    yield from _gauges()
    yield from _counters()
    yield from _daemons()
    yield from _certificates()
    yield from _base_keys()


def _one_wrong(says: str, name: str, values: Sequence[float | None], fires, step: float = STEP) -> Situation:
    values = list(values)
    return Situation(says, healthy(len(values)) | {series(name): values}, fires, step)


def _steps(seconds: float, step: float = STEP) -> int:
    return int(seconds / step)


def _lasting(says: str, name: str, bad: float, good: float, alert: str, wait: float, keep: float = 0.0) -> Situation:
    """Of a value that is bad from ten minutes on, for as long as it takes to fire and a little, and is good then."""
    begin, end = 10 * MINUTE, 10 * MINUTE + wait + 2 * MINUTE
    values = [good] * _steps(begin) + [bad] * _steps(end - begin) + [good] * _steps(keep + HOUR)
    fires = [(begin + wait - STEP, set()), (begin + wait + STEP, {alert}), (end + keep + 2 * STEP, set())]
    if keep:
        fires.insert(2, (end + keep - 2 * STEP, {alert}))
    return _one_wrong(says, name, values, fires)


def _gauges() -> Iterator[Situation]:
    rows = [
        ("a role that is handed out is dead", "imds_proxy_ready{L}", 0, 1, "NotReady", 5 * MINUTE),
        ("a listener is closed", _LISTENER, 0, 1, "ListenerDown", 5 * MINUTE),
        ("a clock is 61 seconds behind", "imds_proxy_clock_skew_seconds{L}", 61, 60, "ClockSkew", 5 * MINUTE),
        ("a clock is 61 seconds ahead", "imds_proxy_clock_skew_seconds{L}", -61, -60, "ClockSkew", 5 * MINUTE),
        (
            "a config file is refused",
            "imds_proxy_config_last_reload_successful{L}",
            0,
            1,
            "ConfigNotReloaded",
            5 * MINUTE,
        ),
    ]
    for says, name, bad, good, alert, wait in rows:
        yield _lasting(says, name, bad, good, alert, wait)
        brief = [good] * 20 + [bad] * _steps(wait) + [good] * 40
        yield _one_wrong(f"{says}, for a moment too short", name, brief, [(HOUR / 2, set())])


def _grows(begin: float, end: float, until: float, rate: float) -> list[float]:
    """A counter that grows by `rate` a second meanwhile."""
    return [rate * max(0.0, min(step * STEP, end) - begin) for step in range(_steps(until) + 1)]


def _counters() -> Iterator[Situation]:
    begin = 10 * MINUTE
    limited = 'imds_proxy_requests_limited_total{L,protocol="imds_v2"}'
    file = 'imds_proxy_file_write_failures_total{L,path="/run/credentials"}'
    audit = "imds_proxy_audit_write_failures_total{L}"

    def ends(name: str, alert: str, *, rate: float, fires: float, lasts: float, after: float) -> Situation:
        values = _grows(begin, begin + lasts, begin + lasts + after + 20 * MINUTE, rate)
        times = [(begin + fires - 2 * MINUTE, set()), (begin + fires + MINUTE, {alert})]
        return _one_wrong(f"{name} grows", name, values, [*times, (begin + lasts + after + 2 * MINUTE, set())])

    # The rate over five minutes passes one a second after two and a half of them.
    yield ends(limited, "RequestsLimited", rate=2, fires=12.5 * MINUTE, lasts=HOUR, after=13 * MINUTE)
    yield _one_wrong("a burst is limited", limited, _grows(begin, begin + MINUTE, HOUR, 100), [(HOUR, set())])
    slow = _grows(begin, 2 * HOUR, 2 * HOUR, 0.9)
    yield _one_wrong("fewer than one request a second is limited", limited, slow, [(2 * HOUR, set())])
    yield ends(file, "FileNotWritten", rate=0.2, fires=10 * MINUTE, lasts=30 * MINUTE, after=5 * MINUTE)
    yield _one_wrong("a file is not written once", file, _grows(begin, begin + MINUTE, HOUR, 0.2), [(HOUR, set())])
    yield ends(audit, "AuditNotWritten", rate=0.2, fires=5 * MINUTE, lasts=10 * MINUTE, after=10 * MINUTE)
    for name in (limited, file, audit):
        again = [50.0] * 60 + [0.0] * 60
        yield _one_wrong(f"{name} begins anew at zero", name, again, [(HOUR, set())])


def _daemons() -> Iterator[Situation]:
    yield _down("a daemon dies", 20 * MINUTE)
    count = 120
    died = {name: [*values[:20], *([GONE] * 8), *values[28:]] for name, values in healthy(count).items()}
    died[series("up{L}")] = [1.0] * 20 + [0.0] * 8 + [1.0] * (count - 28)
    yield Situation("a host is started again within four minutes", died, [(HOUR, set())])
    yield _vanished()
    yield _none()
    yield _blind()
    yield _restarts(2, set())
    yield _restarts(3, {"RestartLoop"})


def _down(says: str, seconds: float) -> Situation:
    begin, dead = 20, _steps(seconds)
    down = {name: [*values, *([GONE] * dead), *(values[:1] * 60)] for name, values in healthy(begin).items()}
    down[series("up{L}")] = [1.0] * begin + [0.0] * dead + [1.0] * 60
    at, end = begin * STEP, (begin + dead) * STEP
    fires = [(at + 5 * MINUTE - STEP, set()), (at + 5 * MINUTE + STEP, {"DaemonDown"})]
    return Situation(says, down, [*fires, (end + MINUTE, {"DaemonDown"}), (end + 3 * MINUTE, set())])


def _vanished() -> Situation:
    """Another host goes on. It was last seen at the step before."""
    begin, until = 40, _steps(7 * HOUR)
    gone = {name: [*values, *([GONE] * (until - begin))] for name, values in healthy(begin).items()}
    at, alert = begin * STEP, {"DaemonVanished"}
    fires = [(at + 14 * MINUTE, set()), (at + 16 * MINUTE, alert), (at + 5.8 * HOUR, alert), (at + 6.2 * HOUR, set())]
    return Situation("a host vanishes from service discovery", gone | healthy(until, "web2:9338"), fires)


def _none() -> Situation:
    begin = 40
    gone = {name: [*values, *([GONE] * 80), *(values[:1] * 40)] for name, values in healthy(begin).items()}
    at, all_of_them = begin * STEP, {"NoTargets", "DaemonVanished"}
    fires = [(at + 14 * MINUTE, set()), (at + 16 * MINUTE, all_of_them), (at + 41 * MINUTE, set())]
    return Situation("service discovery finds nothing", gone, fires)


def _blind() -> Situation:
    """Prometheus's user is not in `allowed_users`."""
    name = series('imds_proxy_role_info{L,role="deploy",source="assume-role",role_arn="arn"}')
    blind = healthy(60) | {name: [1.0] * 10 + [GONE] * 30 + [1.0] * 20}
    at = 10 * STEP
    fires = [(at + 9 * MINUTE, set()), (at + 11 * MINUTE, {"NoRolesVisible"}), (at + 16 * MINUTE, set())]
    return Situation("Prometheus may see no role", blind, fires)


def _restarts(count: int, names: set[str]) -> Situation:
    """One every five minutes."""
    starts = [1.0] * 20 + [float(each) for each in range(2, count + 2) for _ in range(10)]
    starts += starts[-1:] * 100
    end = (20 + 10 * count) * STEP
    fires = [((20 + 10 * 2) * STEP - STEP, set()), (end, names), (end + 32 * MINUTE, set())]
    return _one_wrong(f"a daemon starts {count} times more", "process_start_time_seconds{L}", starts, fires)


def _certificates() -> Iterator[Situation]:
    """Lives, and how much is left of them when somebody hears of it."""
    alert = {"CertificateNotRotated"}
    for life, left in ((HOUR, 15 * MINUTE), (DAY, 6 * HOUR), (7 * DAY, DAY), (30 * DAY, 7 * DAY)):
        step = min(life / 60, _QUARTER) if life < 7 * DAY else HOUR
        values = [life] * int(life * 1.05 / step)
        wait = 5 * MINUTE + step
        fires = [(life - left - step, set()), (life - left + wait + 2 * step, alert)]
        yield _one_wrong(f"a certificate of {life / HOUR:g} hours is not replaced", _CERTIFICATE, values, fires, step)
        yield _replaced(life, step)
    yield _replaced(24 * MINUTE, STEP)
    yield _one_wrong("a role never had a certificate", _CERTIFICATE, [0.0] * 200, [(HOUR, set())])
    yield from _refused()


def _replaced(life: float, step: float) -> Situation:
    """When a third is left, as what rotates certificates does."""
    values = [life + (index * step // (life * 2 / 3)) * life * 2 / 3 for index in range(int(life * 2.5 / step))]
    says = f"a certificate of {life / HOUR:g} hours is replaced in time"
    return _one_wrong(says, _CERTIFICATE, values, [(2.5 * life, set())], step)


def _refused() -> Iterator[Situation]:
    name = 'imds_proxy_certificate_refusals_total{L,role="deploy"}'
    day, alert = _steps(DAY, _QUARTER), {"CertificateRefused"}
    refused = healthy(2 * day) | {
        series(_CERTIFICATE): [90 * DAY] * 2 * day,
        series(name): [0.0] * 8 + [1.0] * (2 * day - 8),
    }
    fires = [(HOUR, set()), (3 * HOUR, alert), (25 * HOUR, alert), (27 * HOUR, set())]
    yield Situation("new certificate files are refused", refused, fires, _QUARTER)
    mended = refused | {series(_CERTIFICATE): [90 * DAY] * 16 + [180 * DAY] * (2 * day - 16)}
    fires = [(3 * HOUR, alert), (4.5 * HOUR, set())]
    yield Situation("new certificate files are refused, and mended", mended, fires, _QUARTER)
    both = refused | {series(_CERTIFICATE): [90 * DAY] * 8 + [180 * DAY] * (2 * day - 8)}
    yield Situation("a certificate is refused until its key is there", both, [(2 * DAY, set())], _QUARTER)
    again = refused | {series(name): [3.0] * 20 + [0.0] * (2 * day - 20)}
    yield Situation("a counter of refused certificates begins anew", again, [(2 * DAY, set())], _QUARTER)


def _base_keys() -> Iterator[Situation]:
    step, day, alert = 3 * HOUR, _steps(DAY, _QUARTER), {"BaseKeyOld"}
    made = [DAY] * _steps(92 * DAY, step) + [91.5 * DAY] * _steps(DAY, step)
    fires = [(91 * DAY, set()), (91 * DAY + 2 * step, alert), (92 * DAY + step, set())]
    yield _one_wrong("a base key is older than 90 days", _BASE_KEY, made, fires, step)
    failures = [0.0] * 8 + [1.0] * (4 * day)
    alert = {"BaseKeyRotationFails"}
    denied = 'imds_proxy_base_key_rotations_total{L,outcome="denied"}'
    fires = [(2 * HOUR - _QUARTER, set()), (3 * HOUR, alert), (2 * DAY + HOUR, alert), (2 * DAY + 3 * HOUR, set())]
    yield _one_wrong("rotation of a base key is denied", denied, failures, fires, _QUARTER)
    away = 'imds_proxy_base_key_rotations_total{L,outcome="unreachable"}'
    yield _one_wrong("rotation of a base key finds AWS away", away, failures, [(4 * DAY, set())], _QUARTER)
    mended = healthy(len(failures)) | {
        series(denied): failures,
        series(_BASE_KEY): [1.0] * 20 + [5 * HOUR] * (len(failures) - 20),
    }
    fires = [(4 * HOUR, alert), (6 * HOUR, set())]
    yield Situation("rotation of a base key is denied, and mended", mended, fires, _QUARTER)


SITUATIONS = list(situations())

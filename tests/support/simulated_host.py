"""Everything that a daemon in health says of itself besides its roles, for situations in which one thing is wrong."""

_LABELS = 'job="imds-proxy",instance="INSTANCE"'
_HEALTHY = {
    "up{L}": 1,
    "process_start_time_seconds{L}": 1,
    'imds_proxy_build_info{L,version="1",python="3"}': 1,
    'imds_proxy_role_info{L,role="deploy",source="assume-role",role_arn="arn"}': 1,
    "imds_proxy_ready{L}": 1,
    'imds_proxy_listener_up{L,address="127.0.0.1:1338"}': 1,
    'imds_proxy_listener_up{L,address="169.254.169.254:80"}': 1,
    "imds_proxy_clock_skew_seconds{L}": 0,
    "imds_proxy_config_last_reload_successful{L}": 1,
    'imds_proxy_requests_limited_total{L,protocol="imds_v2"}': 0,
    "imds_proxy_audit_write_failures_total{L}": 0,
    'imds_proxy_file_write_failures_total{L,path="/run/credentials"}': 0,
    "imds_proxy_base_key_created_timestamp_seconds{L}": 0,
    'imds_proxy_base_key_rotations_total{L,outcome="denied"}': 0,
    'imds_proxy_base_key_rotations_total{L,outcome="unreachable"}': 0,
    'imds_proxy_certificate_refusals_total{L,role="deploy"}': 0,
}


def series(name: str, instance: str = "web1:9338") -> str:
    """The series of one of the names above, or of another that is written as they are."""
    return name.replace("L}", _LABELS + "}").replace("{L,", f"{{{_LABELS},").replace("INSTANCE", instance)


def healthy(count: int, instance: str = "web1:9338") -> dict[str, list[float | None]]:
    """Its series, with so many samples each."""
    return {series(name, instance): [float(value)] * count for name, value in _HEALTHY.items()}

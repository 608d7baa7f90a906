"""`check --as`: what a caller would get, before it asks; and what a config may not have meant."""

import pytest

from imds_proxy.callers.grant_warnings import remarks
from imds_proxy.cli.check_as import check_as
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from support.plane import role_table

LISTEN = ["127.0.0.1:1338", "172.17.0.1:80"]
GRANTS = [
    {"role": "web", "address": "172.17.0.0/16", "listener": "172.17.0.1:80"},
    {"role": "jobs", "user": "root"},
    {"role": "web", "service_account": "shop/*"},
    {"role": "jobs", "token_file": "/run/jobs.token"},
    {"role": "jobs", "gid": 4321},
    {"role": "web", "unit": ["nginx.service", "worker@*.service"], "uid": 0},
]
SERVICE_ACCOUNTS = {"issuer": "https://cluster", "jwks_file": "/etc/jwks.json"}


def config(**tables):
    roles = role_table("web") | role_table("jobs")
    return parse({"roles": roles, "metadata": {"listen": LISTEN}, "grants": GRANTS, **tables}, "t")


WHOLE = config(service_accounts=SERVICE_ACCOUNTS)


@pytest.mark.parametrize(
    ("who", "gets"),
    [
        ("user=root", "gets jobs; its list shows jobs"),
        ("uid=0", "gets jobs; its list shows jobs"),
        ("uid=4000000000", "gets nothing"),
        ("group=users", "gets nothing"),
        ("gid=4321", "gets jobs; its list shows jobs"),
        ("unit=nginx.service,user=root", "gets jobs, web; its list shows jobs"),
        ("unit=worker@7.service,uid=0", "gets jobs, web; its list shows jobs"),
        ("unit=nginx.service", "gets nothing"),
        ("address=172.17.0.2,listener=172.17.0.1:80", "gets web; its list shows web"),
        ("address=172.17.0.2", "gets nothing"),
        ("user=root,listener=172.17.0.1:80", "gets jobs; its list shows jobs"),
        ("address=::ffff:172.17.0.2,listener=172.17.0.1:80", "gets web; its list shows web"),
        ("service-account=shop/frontend", "gets web; its list shows web"),
        ("service-account=other/frontend", "gets nothing"),
        ("user=root,service-account=other/frontend", "gets nothing"),
        ("token-file=/run/jobs.token", "gets jobs"),
    ],
)
def test_it_says_what_a_caller_would_get(capsys, who, gets):
    assert check_as(WHOLE, who) == ("nothing" in gets)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == gets
    assert len(lines) == 2 + len(GRANTS)


def test_it_says_which_key_of_a_grant_does_not_fit(capsys):
    """Whoever asks why at three in the morning reads it instead of trying."""
    check_as(WHOLE, "address=172.17.0.2")
    assert capsys.readouterr().out.splitlines() == [
        "from 172.17.0.2 to 127.0.0.1:1338",
        '  grants.0  does not give web: listener = "172.17.0.1:80"',
        '  grants.1  does not give jobs: user = "root"',
        '  grants.2  does not give web: service_account = "shop/*"',
        '  grants.3  does not give jobs: token_file = "/run/jobs.token"',
        "  grants.4  does not give jobs: gid = 4321",
        '  grants.5  does not give web: uid = 0, unit = ["nginx.service", "worker@*.service"]',
        "gets nothing",
    ]


def test_a_list_is_shown_as_it_was_written(capsys):
    """One value stays one value, and each of several is there."""
    grants = [{"role": "web", "user": ["daemon", "root"], "uid": [0]}, {"role": "jobs", "listener": LISTEN}]
    assert check_as(config(grants=grants), "user=root") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        '  grants.0  gives web: user = ["daemon", "root"], uid = 0',
        '  grants.1  gives jobs: listener = ["127.0.0.1:1338", "172.17.0.1:80"]',
        "gets web, jobs; its list shows web",
    ]


def test_it_says_whom_it_takes_the_caller_for(capsys):
    check_as(WHOLE, "uid=4000000000,group=docker,service-account=shop/app")
    assert capsys.readouterr().out.splitlines()[0] == (
        "user without a name (uid 4000000000), groups docker, service account shop/app,"
        " from 127.0.0.1 to 127.0.0.1:1338"
    )
    check_as(WHOLE, "unit=nginx.service")
    assert capsys.readouterr().out.startswith("unit nginx.service, from 127.0.0.1 to")
    check_as(WHOLE, "token-file=/run/jobs.token")
    assert capsys.readouterr().out.startswith("the token of /run/jobs.token, from 127.0.0.1 to")


def test_it_says_that_a_token_asks_for_a_grant_that_names_it(capsys):
    check_as(WHOLE, "user=root,service-account=other/app")
    assert "  grants.1  does not give jobs: it names no service_account" in capsys.readouterr().out


def test_without_grants_it_says_who_gets_what(capsys):
    assert check_as(parse({"roles": role_table("web")}, "t"), "user=root") == 0
    assert "web: there are no grants, every caller gets it" in capsys.readouterr().out
    assert check_as(parse({"roles": role_table("web", default=False)}, "t"), "user=root") == 1


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("root", "expected KEY=VALUE with a key of user, group,"),
        ("usr=root", "expected KEY=VALUE"),
        ("user=", "expected KEY=VALUE"),
        ("", "expected KEY=VALUE"),
        ("user=no-such-user-here", "there is no such user on this host"),
        ("uid=root", "expected a number"),
        ("gid=-1", "expected a number"),
        ("address=bridge", "expected an IP address"),
        ("address=172.17.0.0/16", "expected an IP address"),
        ("unit=nginx", "expected the whole name of a service or a scope"),
        ("unit=worker@*.service", "expected the whole name of a service or a scope"),
        ("unit=nginx.service,address=172.17.0.2", "who has a unit is on this host"),
        ("user=root,address=172.17.0.2", "is on this host, and counts as at 127.0.0.1"),
        ("service-account=frontend", "expected NAMESPACE/NAME"),
        ("listener=127.0.0.1:1", "is none of metadata.listen"),
    ],
)
def test_a_caller_that_cannot_be_is_a_mistake(who, words):
    with pytest.raises(ConfigError, match=words):
        check_as(WHOLE, who)


def test_what_may_not_be_meant_is_said():
    """A name with a typing error in it gives nobody anything, and nothing would say so."""
    roles = role_table("web", default=True) | role_table("jobs") | role_table("step", serve=False)
    grants = [{"role": "web", "user": "no-such-user-here"}, {"role": "web", "group": "no-such-group-here"}]
    assert list(remarks(parse({"roles": roles, "grants": grants}, "t"))) == [
        'grants.0.user: there is no user "no-such-user-here" on this host',
        'grants.1.group: there is no group "no-such-group-here" on this host',
        "roles.web.default: beside [[grants]] there is no default: a caller that none fits gets nothing",
        "roles.jobs: nobody may have it, and no file or other role needs it: it is not renewed",
        "roles.step: nobody may have it, and no file or other role needs it: it is not renewed",
    ]
    without_units = config(service_accounts=SERVICE_ACCOUNTS, grants=[each for each in GRANTS if "unit" not in each])
    assert list(remarks(without_units)) == []
    assert list(remarks(parse({"roles": role_table("web", default=True)}, "t"))) == []


@pytest.mark.parametrize(
    ("grants", "given"),
    [
        ([], "every account gets the default role"),
        ([{"role": "web", "uid": 0}, {"role": "jobs", "uid": 0}], "no grant names one"),
    ],
)
def test_believed_accounts_that_no_grant_names_are_remarked_on(grants, given):
    """Every pod of the cluster would have the host's role."""
    roles = role_table("web", default=True) | role_table("jobs")
    made = parse({"roles": roles, "grants": grants, "service_accounts": SERVICE_ACCOUNTS}, "t")
    assert any(f"service_accounts: {given}" in remark for remark in remarks(made))


def test_a_listener_that_stands_alone_is_remarked_on():
    """Meant for containers, it is every local user's too."""
    made = parse({"roles": role_table("web"), "grants": [{"role": "web", "listener": "127.0.0.1:1338"}]}, "t")
    assert any("names a listener alone" in remark for remark in remarks(made))


@pytest.mark.parametrize("listen", ["0.0.0.0:9338", "[::]:9338", "192.0.2.1:9338"])
def test_a_control_plane_that_other_hosts_reach_is_remarked_on(listen):
    """A Prometheus on another host would see nothing, and its operator would not know why."""
    made = parse({"roles": role_table("web"), "admin": {"listen": listen}}, "t")
    assert any("allowed_addresses" in remark for remark in remarks(made))
    allowed = {"listen": listen, "allowed_addresses": ["192.0.2.0/24"]}
    assert list(remarks(parse({"roles": role_table("web"), "admin": allowed}, "t"))) == []


@pytest.mark.parametrize("listen", ["127.0.0.1:9338", "[::1]:9338", "127.0.0.9:1", "systemd:admin"])
def test_a_control_plane_on_loopback_is_not(listen):
    assert list(remarks(parse({"roles": role_table("web"), "admin": {"listen": listen}}, "t"))) == []


def test_a_user_of_the_control_plane_that_is_not_there_is_remarked_on():
    """A typing error would leave Prometheus blind."""
    admin = {"allowed_users": ["root", "prometheuss"]}
    [remark] = remarks(parse({"roles": role_table("web"), "admin": admin}, "t"))
    assert remark == 'admin.allowed_users.1: there is no user "prometheuss" on this host'


ARN = "arn:aws:iam::123456789012:role/path/{}"


@pytest.mark.parametrize(
    ("role", "code", "last"),
    [
        ("web", 0, "asks for web and gets web"),
        (ARN.format("web"), 0, f"asks for {ARN.format('web')} and gets web"),
        (ARN.format("web").replace("/", "%2F"), 0, f"asks for {ARN.format('web')} and gets web"),
        ("jobs", 1, "asks for jobs and gets nothing; granted: web"),
        (ARN.format("jobs"), 1, f"asks for {ARN.format('jobs')} and gets nothing; granted: web"),
        ("a b", 1, "asks for something that is no role and gets nothing; granted: web"),
    ],
)
def test_it_says_what_an_annotation_gets(capsys, role, code, last):
    """Before the pod is there."""
    assert check_as(WHOLE, f"service-account=shop/frontend,role={role}") == code
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (2 + len(GRANTS), last)


def test_it_says_where_only_a_session_tells(capsys):
    roles = {"pushed": {"source": "file", "path": "/p", "format": "json"}}
    grants = [{"role": "pushed", "service_account": "shop/*"}]
    made = parse({"roles": roles, "grants": grants, "service_accounts": SERVICE_ACCOUNTS}, "t")
    assert check_as(made, f"service-account=shop/a,role={ARN.format('x')}") == 0
    assert capsys.readouterr().out.endswith("and gets pushed, if its session turns out to be of that role\n")


def test_who_asks_for_a_role_is_a_service_account():
    with pytest.raises(ConfigError, match="who asks for a role is a service-account"):
        check_as(WHOLE, "user=root,role=web")

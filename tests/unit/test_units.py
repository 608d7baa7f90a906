"""Which unit a cgroup is of (callers/cgroups.py), and how it is known off the loop (callers/units.py)."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from imds_proxy.callers import cgroups, units
from imds_proxy.callers.cgroups import cgroup_root, hindrance, instances, read_units
from imds_proxy.callers.grant_warnings import remarks
from imds_proxy.callers.units import Units
from imds_proxy.config.reader import parse
from support.plane import role_table

NGINX = frozenset({"nginx.service"})

OF_THE_SYSTEM = {
    "init.scope": "init.scope",
    "system.slice/nginx.service": "nginx.service",
    "system.slice/system-worker.slice/worker@1.service": "worker@1.service",
    "web.slice/web-front.slice/web-front-a.slice/nginx.service": "nginx.service",
    r"system.slice/foo\x2dbar.service": r"foo\x2dbar.service",
    r"system.slice/system-dev\x2ddisk.slice/mount@dev-disk@1.service": "mount@dev-disk@1.service",
    "user.slice/user-1000.slice/session-3.scope": "session-3.scope",
    "user.slice/user-1000.slice/user@1000.service": "user@1000.service",
    "system.slice/docker-0a1b.scope": "docker-0a1b.scope",
    # Where a name would be that of a controller's or the kernel's own file, systemd puts a _ before it.
    "system.slice/_memory.service": "memory.service",
    "_cgroup.slice/__x.service": "_x.service",
}
OF_OTHERS = [
    "user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
    "user.slice/user-1000.slice/user@1000.service/nginx.service",
    "user.slice/user-1000.slice/user@1000.service/system.slice/nginx.service",
    "user.slice/user-1000.slice/session-3.scope/nginx.service",
    "machine.slice/x.scope/system.slice/nginx.service",
    "machine.slice/systemd-nspawn@x.service/payload/system.slice/nginx.service",
    "system.slice/docker-0a1b.scope/system.slice/nginx.service",
    "system.slice/delegated.service/nginx.service",
    "system.slice/delegated.service/system.slice/nginx.service",
    "kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope/nginx.service",
    "docker/0a1b/system.slice/nginx.service",
    "docker/nginx.service",
    "lxc.payload.x/system.slice/nginx.service",
    "system.slice/nginx.service ",
    "system.slice/nginx.service\x1b",
    "system.slice/nginx.servicе",  # noqa: RUF001 - a Cyrillic letter
    "system.slice/nginx",
    "system.slice/nginx.socket",
    "system.slice/nginx@.service",
    "system.slice/__nginx.service",
    "system.slice /nginx.service",
    ".slice/nginx.service",
    "system.slices/nginx.service",
    "system/nginx.service",
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The place of a cgroup hierarchy."""
    made = tmp_path / "cgroup"
    made.mkdir(mode=0o755)
    monkeypatch.setattr(cgroups, "cgroup_root", lambda: made)
    return made


def make(root, path):
    """A folder and those above it; its inode number."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    return folder.stat().st_ino


def read(root, named=NGINX):
    """The unit of each folder that has one, by the folder's path."""
    found = read_units(frozenset(named))
    paths = {path.stat().st_ino: str(path.relative_to(root)) for path in root.rglob("*")}
    return {paths[inode]: unit for inode, unit in found.items()}


def test_a_unit_of_the_system_manager_is_the_first_folder_that_is_no_slice(root):
    for path in OF_THE_SYSTEM:
        make(root, path)
    (root / "system.slice/cgroup.procs").touch()
    (root / "system.slice/a.service").touch()
    assert read(root) == OF_THE_SYSTEM


@pytest.mark.parametrize("path", OF_OTHERS, ids=ascii)
def test_a_folder_that_somebody_else_may_have_named_is_no_unit_of_that_name(root, path):
    """Whoever has a session, a container or a service with Delegate= could take nginx's role by a mkdir."""
    make(root, path)
    assert "nginx.service" not in read(root, {"nginx.service", "nginx@*.service"}).values()


DELEGATED = {
    "system.slice/delegated.service": "delegated.service",
    "user.slice/user-1000.slice/user@1000.service": "user@1000.service",
    "machine.slice/x.scope": "x.scope",
}
INSIDE = (
    "nginx.service",
    "system.slice",
    "system.slice/nginx.service",
    "a",
    "a/b.scope",
    "a/b.scope/user@1000.service",
)


@pytest.mark.parametrize(
    ("named", "unit"),
    [
        ("delegated.service", "delegated.service"),
        ("user@1000.service", "user@1000.service"),
        ("user@*.service", "user@1000.service"),
        ("x.scope", "x.scope"),
    ],
)
def test_what_is_inside_of_a_unit_is_of_that_unit(root, named, unit):
    """A service that sorts its processes into cgroups of its own would have no role."""
    for top in DELEGATED:
        for path in INSIDE:
            make(root, f"{top}/{path}")
    (top,) = (path for path, name in DELEGATED.items() if name == unit)
    assert read(root, {named}) == DELEGATED | {f"{top}/{path}": unit for path in INSIDE}


def test_of_units_that_no_grant_names_nothing_inside_is_looked_at(root):
    """A user with a manager of its own could make every look as long as it wants."""
    make(root, "user.slice/user-1000.slice/user@1000.service/a/b")
    assert read(root) == {"user.slice/user-1000.slice/user@1000.service": "user@1000.service"}


def test_of_a_unit_with_very_many_folders_not_all_are_looked_at(root, monkeypatch):
    monkeypatch.setattr(cgroups, "_MOST_INSIDE", 10)
    for number in range(20):
        make(root, f"system.slice/nginx.service/{number}")
    assert len(read(root)) == 11


def test_a_folder_that_is_closed_keeps_no_other_unit_from_its_role(root, monkeypatch):
    """Whoever runs a service with Delegate= may chmod what is inside, and would shut out every unit of the host."""
    for path in ("closed/sub", "open/sub"):
        make(root, f"system.slice/nginx.service/{path}")
    make(root, "x.slice/other.service")
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = read_units(NGINX)
    monkeypatch.undo()
    inodes = [make(root, path) for path in ("x.slice/other.service", "system.slice/nginx.service/open/sub")]
    assert [found[inode] for inode in inodes] == ["other.service", "nginx.service"]
    assert len(found) == 5


def test_a_folder_that_is_too_deep_for_a_path_keeps_no_other_unit_from_its_role(root):
    other, top = make(root, "a.slice/other.service"), make(root, "system.slice/nginx.service")
    descriptor = os.open(root / "system.slice/nginx.service", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=descriptor)
        above, descriptor = descriptor, os.open("x" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(above)
    os.close(descriptor)
    found = read_units(NGINX)
    assert (found[other], found[top]) == ("other.service", "nginx.service")
    assert len(found) > 10
    subprocess.run(["rm", "-r", root / "system.slice"], check=True)  # Python's own way has no room for the path


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_slice_that_others_may_change_is_not_believed(root, mode):
    make(root, "given.slice/nginx.service")
    assert read(root)
    (root / "given.slice").chmod(mode)
    assert read(root) == {}


def test_a_slice_of_somebody_elses_is_not_believed(root):
    """A folder that was handed to a user may hold whatever that user names."""
    if os.geteuid() != 0:
        pytest.skip("giving a folder away takes root")
    make(root, "given.slice/nginx.service")
    os.chown(root / "given.slice", 12345, -1)
    assert read(root) == {}


def test_a_link_leads_to_no_unit(root):
    make(root, "elsewhere/nginx.service")
    make(root, "system.slice")
    (root / "linked.slice").symlink_to("elsewhere")
    (root / "system.slice/nginx.service").symlink_to(root / "elsewhere/nginx.service")
    assert read(root) == {}


def test_a_unit_that_ends_while_it_is_looked_at_keeps_no_other_from_its_role(root, monkeypatch):
    for path in ("a.slice/nginx.service", "b.slice/x.service", "system.slice/nginx.service/sub"):
        make(root, path)
    folders = cgroups._folders

    def ending(path):
        found = folders(path)
        if Path(path) == root:
            (root / "a.slice/nginx.service").rmdir()
            (root / "a.slice").rmdir()
        return found

    monkeypatch.setattr(cgroups, "_folders", ending)
    assert sorted(read(root)) == ["b.slice/x.service", "system.slice/nginx.service", "system.slice/nginx.service/sub"]


@pytest.mark.parametrize(
    ("unit", "pattern"),
    [
        ("worker@1.service", "worker@*.service"),
        ("worker@a@b.c.service", "worker@*.service"),
        ("nginx.service", "nginx.service"),
        ("session-1.scope", "session-1.scope"),
    ],
)
def test_the_instances_of_a_template_have_one_name_together(unit, pattern):
    assert instances(unit) == pattern


# Where the hierarchy is

MOUNT = "41 31 {device} {root} {at} rw,relatime shared:9 - {kind} cgroup2 rw\n"


def mounts(monkeypatch, tmp_path, *lines):
    made = tmp_path / "mountinfo"
    made.write_text("".join(lines))
    monkeypatch.setattr(cgroups, "_MOUNTS", made)


def device_of(path):
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


@pytest.mark.parametrize("name", ["cgroup", "unified", "with space", "tab\there", "back\\slash"])
def test_the_hierarchy_is_found_wherever_it_is_mounted(tmp_path, monkeypatch, name):
    (at := tmp_path / name).mkdir()
    escaped = str(at).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011")
    other = MOUNT.format(device="0:1", root="/", at="/sys/fs/cgroup", kind="tmpfs")
    mounts(monkeypatch, tmp_path, other, MOUNT.format(device=device_of(at), root="/", at=escaped, kind="cgroup2"))
    assert cgroup_root() == at


@pytest.mark.parametrize(
    "change",
    [{"root": "/system.slice/docker-0a1b.scope"}, {"root": "/.."}, {"kind": "cgroup"}, {"device": "0:0"}],
    ids=repr,
)
def test_a_part_of_the_hierarchy_is_not_taken_for_the_whole(tmp_path, monkeypatch, change):
    """In a container's part, system.slice may be the container's own, with whatever units it wants."""
    (at := tmp_path / "cgroup").mkdir()
    line = {"device": device_of(at), "root": "/", "at": at, "kind": "cgroup2"} | change
    mounts(monkeypatch, tmp_path, MOUNT.format(**line))
    assert cgroup_root() is None
    assert read_units(NGINX) == {}
    assert "not mounted here as a whole" in hindrance(7)


def test_a_hierarchy_that_is_gone_is_none(tmp_path, monkeypatch):
    mounts(monkeypatch, tmp_path, MOUNT.format(device="0:9", root="/", at=tmp_path / "nowhere", kind="cgroup2"))
    assert cgroup_root() is None


# What is in the way


@pytest.fixture
def mine(root, monkeypatch, tmp_path):
    """This process is in a unit; the inode of that."""
    (tmp_path / "self").write_text("9:name=systemd:/\n0::/system.slice/imds-proxy.service\n")
    monkeypatch.setattr(cgroups, "_MINE", tmp_path / "self")
    return make(root, "system.slice/imds-proxy.service")


def test_where_units_can_be_told_nothing_is_in_the_way(mine):
    assert hindrance(mine) is None


def test_in_a_container_that_sees_the_hosts_cgroups_nothing_is_in_the_way(mine, tmp_path):
    (tmp_path / "self").write_text("0::/../../x.scope\n")
    assert hindrance(mine + 1) is None


@pytest.mark.parametrize(("told", "words"), [(None, "does not tell"), (0, "Linux before 5.9"), (1, "net_cls")])
def test_a_kernel_that_does_not_tell_cgroups_is_named(mine, told, words):
    assert words in hindrance(told)


def test_a_host_without_systemd_is_named(root):
    make(root, "docker/0a1b")
    assert "systemd is not the init system" in hindrance(1)


CONFIG = {"roles": role_table("web"), "grants": [{"role": "web", "unit": ["nginx.service", "worker@*.service"]}]}


def test_a_config_with_units_says_so_once_and_one_without_says_nothing(root):
    """A grant that can never fit would be a riddle."""
    config = parse(CONFIG | {"grants": CONFIG["grants"] * 3}, "t")
    said = [remark for remark in remarks(config) if "unit" in remark]
    assert len(said) == 1
    assert said[0].startswith("grants.0.unit: no grant with a unit fits on this host: ")
    config = parse(CONFIG | {"grants": [{"role": "web", "uid": 0}]}, "t")
    assert not [remark for remark in remarks(config) if "unit" in remark]


# Off the loop


@pytest.fixture
async def known(root, monkeypatch):
    """Units of a host, for grants that name nginx.service; `looks` is how often it was looked at."""
    looks = []
    monkeypatch.setattr(units, "_PATIENCE", 10.0)  # this machine may be slow
    monkeypatch.setattr(units, "read_units", lambda named: looks.append(named) or read_units(named))
    made = Units()
    made.looks = looks
    made.follow(NGINX)
    yield made
    made.close()


async def test_a_unit_is_looked_for_once(known, root):
    one, two = (make(root, f"system.slice/{name}.service") for name in ("nginx", "other"))
    assert not known.is_known(one)
    assert [await known.of(each) for each in (one, two, one)] == ["nginx.service", "other.service", "nginx.service"]
    assert known.is_known(two)
    assert known.unit(two) == "other.service"
    assert len(known.looks) == 1


async def test_many_at_once_wait_for_one_look(known, root):
    """At a boot every service asks for its role."""
    made = [make(root, f"system.slice/{n}.service") for n in range(50)]
    assert await asyncio.gather(*map(known.of, made)) == [f"{n}.service" for n in range(50)]
    assert len(known.looks) == 1


async def test_a_unit_that_is_started_later_is_found_at_once(known, root):
    """A oneshot that runs for a second would never have its role."""
    await known.of(make(root, "system.slice/nginx.service"))
    began = asyncio.get_running_loop().time()
    assert await known.of(make(root, "system.slice/late.service")) == "late.service"
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_cgroup_of_no_unit_is_looked_for_once_a_minute(known, root, monkeypatch):
    """Whatever is in no unit would cost a look at every connection."""
    stranger = make(root, "docker/0a1b")
    for _ in range(5):
        assert await known.of(stranger) is None
    assert known.is_known(stranger)
    assert len(known.looks) == 1
    monkeypatch.setattr(units, "_FRESH", 0.0)
    assert await known.of(stranger) is None
    assert len(known.looks) == 2


async def test_who_connects_from_ever_new_cgroups_causes_few_looks(known, root):
    """Any user with a manager of its own may make cgroups, and would take the processor by that."""
    began = asyncio.get_running_loop().time()
    made = [make(root, f"user.slice/user-1.slice/user@1.service/{n}") for n in range(8)]
    for cgroup in made:
        assert await known.of(cgroup) is None
    took = asyncio.get_running_loop().time() - began
    assert len(known.looks) <= took / units._APART + 1


async def test_a_unit_that_has_ended_is_forgotten(known, root, monkeypatch):
    """Its name is that of another cgroup by then."""
    old = make(root, "system.slice/nginx.service")
    assert await known.of(old) == "nginx.service"
    (root / "system.slice/nginx.service").rename(root / "gone")
    new = make(root, "system.slice/nginx.service")
    assert await known.of(new) == "nginx.service"
    assert known.unit(old) is None
    assert await known.of(old) is None


async def test_another_config_looks_inside_of_other_units(known, root):
    inside = make(root, "system.slice/other.service/sub")
    assert await known.of(inside) is None
    known.follow(frozenset({"other.service"}))
    assert not known.is_known(inside)
    assert await known.of(inside) == "other.service"


async def test_while_no_grant_names_a_unit_nothing_is_read(known, root):
    """Who has no such grant pays nothing for it."""
    known.follow(frozenset())
    cgroup = make(root, "system.slice/nginx.service")
    assert known.is_known(cgroup)
    assert await known.of(cgroup) is None
    assert known.looks == []


async def test_where_the_kernel_tells_no_cgroup_there_is_no_unit(known, root):
    make(root, "system.slice/nginx.service")
    assert await known.of(0) is None
    assert known.looks == []


async def test_a_look_that_fails_is_told_once_and_tried_again(known, root, monkeypatch, caplog):
    """For want of a descriptor at one moment a service must not be without its role for a minute."""
    cgroup = make(root, "system.slice/nginx.service")

    def fail(_named):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as failing:
        failing.setattr(units, "_PATIENCE", 0.15)
        failing.setattr(units, "read_units", fail)
        assert [await known.of(cgroup) for _ in range(2)] == [None, None]
    assert [record.message for record in caplog.records] == ["the cgroups of this host cannot be read"]
    assert await known.of(cgroup) == "nginx.service"


async def test_a_look_that_hangs_leaves_a_client_without_a_unit_and_nobody_waiting(known, root, monkeypatch, caplog):
    """An SDK gives up after half a second; what was known before still holds."""
    nginx, late = make(root, "system.slice/nginx.service"), make(root, "system.slice/late.service")
    assert await known.of(nginx) == "nginx.service"
    monkeypatch.setattr(units, "_FRESH", 0.0)
    monkeypatch.setattr(units, "_PATIENCE", 0.2)
    hanging = []

    async def hang(*_):
        hanging.append(True)
        await asyncio.Event().wait()

    monkeypatch.setattr(units, "in_thread", hang)
    unknown = make(root, "system.slice/unknown.service")
    assert await asyncio.gather(*map(known.of, (nginx, late, unknown))) == ["nginx.service", "late.service", None]
    assert await known.of(unknown) is None
    assert len(hanging) == 1
    assert [record.message for record in caplog.records] == ["the cgroups of this host cannot be read in time"]

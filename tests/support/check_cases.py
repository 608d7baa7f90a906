"""Configs that a host cannot serve as they are, and what is said of each by `check` and by the daemon."""

import os
from dataclasses import dataclass
from pathlib import Path

from imds_proxy.demo.aws_double import free_port
from support.pushed_file import Writer

NOBODYS = 54321
"""A user that no database has."""


@dataclass(frozen=True)
class Case:
    """Tables to add to a config.

    `FOLDER` stands for a folder of the test's own. `said` is what both say, unless the daemon has other words.
    """

    tables: str
    key: str
    said: str
    by_daemon: str | None = None


CASES = {
    "a folder that is not there": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/missing/a"\n',
        "files.0.path",
        "FOLDER/missing/a cannot be written: No such file or directory",
    ),
    "an owner that is not there": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/b"\nowner = "no-such-user"\n',
        "files.1.owner",
        'FOLDER/b cannot be written: there is no user "no-such-user" on this host',
    ),
    "a group that is not there": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/c"\ngroup = "no-such-group"\n',
        "files.2.group",
        'FOLDER/c cannot be written: there is no group "no-such-group" on this host',
    ),
    "a folder in the file's place": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/folder"\n', "files.3.path", "FOLDER/folder is not a regular file"
    ),
    "a file system of the kernel's": Case(
        '[[files]]\nrole = "deploy"\npath = "/proc/imds-proxy"\n', "files.4.path", "/proc/imds-proxy cannot be written"
    ),
    "no program after a change": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/d"\nafter = "/nowhere/reload now"\n',
        "files.5.after",
        'role "deploy": after a change /nowhere/reload is not there',
    ),
    "a program that may not be run": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/e"\nafter = "FOLDER/plain"\n',
        "files.6.after",
        'role "deploy": after a change FOLDER/plain may not be run by this user',
    ),
    "an INI file that is none": Case(
        '[[files]]\nrole = "deploy"\npath = "FOLDER/large"\n', "files.7.path", "FOLDER/large is larger than 1 MB"
    ),
    "no folder for a token": Case(
        '[[grants]]\nrole = "deploy"\ntoken_file = "FOLDER/missing/token"\n',
        "grants.0.token_file",
        "FOLDER/missing/token cannot be",
    ),
    "a token that all read": Case(
        '[[grants]]\nrole = "deploy"\ntoken_file = "FOLDER/open"\n',
        "grants.1.token_file",
        "FOLDER/open can be read or changed by other users",
    ),
    "a short token": Case(
        '[[grants]]\nrole = "deploy"\ntoken_file = "FOLDER/short"\n',
        "grants.2.token_file",
        "FOLDER/short holds no token of 16 or more printable characters",
    ),
    "somebody who may ask": Case(
        "".join(
            f'[[grants]]\nrole = "{role}"\naddress = "127.0.0.1"\n'
            for role in ("deploy", "process", "script", "pushed", "web", "http", "anywhere", "profile")
        ),
        "",
        "",
    ),
    "no folder for the audit": Case(
        '[audit]\nfile = "FOLDER/missing/audit.log"\n',
        "audit.file",
        "FOLDER/missing/audit.log cannot be written: No such file or directory",
    ),
    "no certificate of the control plane": Case(
        '[admin]\nlisten = "127.0.0.1:ADMIN"\ncertificate = "FOLDER/missing.crt"\nprivate_key = "FOLDER/missing.key"\n',
        "admin.certificate",
        "[admin] certificate FOLDER/missing.crt cannot be read: No such file or directory",
    ),
    "no keys of an issuer": Case(
        '[service_accounts]\nissuer = "https://issuer"\njwks_file = "FOLDER/missing.json"\n',
        "service_accounts",
        "key set FOLDER/missing.json cannot be read: No such file or directory",
    ),
    "a state directory under a file": Case(
        'state_dir = "FOLDER/plain/state"\n', "state_dir", "FOLDER/plain/state cannot be used: Not a directory"
    ),
    "listeners of addresses that are elsewhere": Case(
        '[metadata]\nlisten = ["127.0.0.1:PORT", "169.254.9.9:PORT", "systemd:nothing"]\n',
        "metadata.listen.1",
        "listener 169.254.9.9:PORT: Cannot assign requested address",
    ),
    "a socket that systemd does not pass": Case(
        "",
        "metadata.listen.2",
        "listener systemd:nothing: no .socket unit here has that name",
        "listener systemd:nothing: systemd passed no socket of that name",
    ),
    "no program for credentials": Case(
        '[roles.process]\nsource = "process"\ncommand = ["/nowhere/helper"]\ndefault = false\n',
        "roles.process.command",
        'role "process": command /nowhere/helper is not there',
    ),
    "a script without its interpreter": Case(
        '[roles.script]\nsource = "process"\ncommand = "FOLDER/script"\ndefault = false\n',
        "roles.script.command",
        'role "script": command FOLDER/script is not there',
    ),
    "no pushed file": Case(
        '[roles.pushed]\nsource = "file"\npath = "FOLDER/missing.credentials"\ndefault = false\n',
        "roles.pushed.path",
        'role "pushed": credentials file FOLDER/missing.credentials cannot be read: No such file or directory',
    ),
    "no token for a web identity": Case(
        '[roles.web]\nsource = "web-identity"\nrole_arn = "arn:aws:iam::123456789012:role/Web"\n'
        'token_file = "FOLDER/missing.token"\ndefault = false\n',
        "roles.web.token_file",
        'role "web": token_file FOLDER/missing.token cannot be read: No such file or directory',
    ),
    "no token for a service": Case(
        '[roles.http]\nsource = "http"\nurl = "http://127.0.0.1:9/"\ntoken_file = "FOLDER/missing.bearer"\n'
        "default = false\n",
        "roles.http",
        'role "http": token FOLDER/missing.bearer cannot be read: No such file or directory',
    ),
    "no certificate for Roles Anywhere": Case(
        '[roles.anywhere]\nsource = "roles-anywhere"\nrole_arn = "arn:aws:iam::123456789012:role/Any"\n'
        'trust_anchor_arn = "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/'
        '00000000-0000-0000-0000-000000000000"\n'
        'profile_arn = "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/00000000-0000-0000-0000-000000000000"\n'
        'certificate = "FOLDER/missing.pem"\ndefault = false\n',
        "roles.anywhere.certificate",
        'role "anywhere": certificate FOLDER/missing.pem cannot be read: No such file or directory',
    ),
    "no such profile": Case(
        '[roles.profile]\nrole_arn = "arn:aws:iam::123456789012:role/P"\nprofile = "nowhere"\ndefault = false\n',
        "roles.profile.profile",
        'role "profile": there is no profile "nowhere"',
        "nowhere",
    ),
}
"""What can be in one config together."""


class Scene:
    """The files of the cases, and one config with all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.admin = free_port(), free_port()
        self.writer = Writer(folder)
        self.writer.rename()
        (folder / "folder").mkdir()
        for name, content, mode in (
            ("plain", "", 0o644),
            ("large", "x" * (2 << 20), 0o600),
            ("open", "t" * 32, 0o644),
            ("short", "t", 0o600),
            ("script", "#!/nowhere/python\n", 0o755),
        ):
            (folder / name).write_text(content)
            (folder / name).chmod(mode)
        self.config = folder / "config.toml"

    def filled(self, text: str) -> str:
        values = {"FOLDER": self.folder, "PORT": self.port, "ADMIN": self.admin}
        for name, value in values.items():
            text = text.replace(name, str(value))
        return text

    def write(self, *texts: str) -> Path:
        """A config of these tables, and of a role that has credentials; keys without a table come first."""
        ordered = sorted(texts, key=lambda text: text.startswith("["))
        role = self.writer.role + "default = true\n"
        self.config.write_text(self.filled("".join((*ordered, role))))
        return self.config

    def foreign_state(self) -> Path:
        """A state directory of another user's."""
        path = self.folder / "theirs"
        path.mkdir(mode=0o700)
        os.chown(path, NOBODYS, NOBODYS)
        return path

"""A node that runs one pod: volumes with the owners and modes that a kubelet gives them, containers with their user,
capabilities and read-only root, probes as they are written.

The containers are in the network namespace that this is called in, and run this Python in place of the image's.
"""

import base64
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from support.chart import ROOT
from support.daemon import clean_environment

_ENTER = """
set -e
root=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
for entry in /usr /bin /sbin /lib /lib64; do
    if [ -L $entry ]; then cp -P $entry "$root$entry"
    elif [ -d $entry ]; then mkdir "$root$entry"; mount --rbind $entry "$root$entry"
    fi
done
mkdir "$root/dev" "$root/proc"; mount --rbind /dev "$root/dev"; mount --rbind /proc "$root/proc"
cp -a /etc "$root/etc"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    mount -o "remount,bind,$3" "$root$2"
    shift 3
done
shift
mount -o remount,ro "$root"
exec chroot "$root" "$@"
"""
_GROUP_READS = 0o440


class Node:
    """Runs `pod`, an object of the API server `server`; its volumes are in `folder`."""

    def __init__(self, server, pod, folder):
        self._server, self._folder = server, folder
        self._namespace, self._name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._account = pod["spec"]["serviceAccountName"]
        self._pod = pod["spec"]["securityContext"]
        self.containers = {
            each["name"]: each for part in ("initContainers", "containers") for each in pod["spec"][part]
        }
        self._volumes = {volume["name"]: self._make(volume) for volume in pod["spec"]["volumes"]}

    def start(self, name, log, **variables):
        """Start a container of the daemon's image; what it prints is appended to a file."""
        container = self.containers[name]
        rights = self._pod | container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        command = [*self._enter(name), "--", *_as(rights), sys.executable, "-m", "imds_proxy", *container["args"]]
        own = {each["name"]: each["value"] for each in container.get("env", [])}
        with log.open("ab") as output:
            return subprocess.Popen(
                list(map(str, command)), env=clean_environment() | own | variables, stdout=output, stderr=output
            )

    def probe(self, name, which, address):
        """The status of an HTTP probe of a container of a pod at an address, as its kubelet asks; None: no answer."""
        container = self.containers[name]
        wanted = container[which]["httpGet"]
        (port,) = (each["containerPort"] for each in container["ports"] if each["name"] == wanted["port"])
        host = wanted.get("host", address)
        url = f"{wanted['scheme'].lower()}://{f'[{host}]' if ':' in host else host}:{port}{wanted['path']}"
        trusting = ssl._create_unverified_context()  # as a kubelet is
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
        try:
            with urllib.request.build_opener(*handlers).open(url, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def _enter(self, name):
        """The command line up to the container's own."""
        root = self._folder / f"root-of-{name}"
        root.mkdir(exist_ok=True)
        mounts = [
            (place, place, "ro") for place in dict.fromkeys((Path(sys.base_prefix), ROOT)) if place != Path("/usr")
        ]
        for mount in self.containers[name].get("volumeMounts", []):
            source = self._volumes[mount["name"]] / mount.get("subPath", "")
            mounts.append((source.resolve(), mount["mountPath"], "ro" if mount.get("readOnly") else "rw"))
        flat = [part for mount in mounts for part in mount]
        return ["unshare", "--mount", "sh", "-c", _ENTER, "sh", root, *flat]

    def _make(self, volume):
        folder = self._folder / volume["name"]
        folder.mkdir()
        if "emptyDir" in volume or "hostPath" in volume:
            group = self._pod.get("fsGroup") if "emptyDir" in volume else None
            folder.chmod(0o755 if "hostPath" in volume else 0o777 if group is None else 0o2777)
            if group is not None:
                os.chown(folder, 0, group)
            return folder
        if "configMap" in volume:
            self._project(folder, self._files(volume), volume["configMap"].get("defaultMode", 0o644))
        else:
            sources = volume["projected"]["sources"]
            files = {path: content for source in sources for path, content in self._files(source).items()}
            self._project(folder, files, volume["projected"].get("defaultMode", 0o644))
        return folder

    def _files(self, source):
        """What one source of a volume holds, as {path: content}."""
        if "serviceAccountToken" in source:
            audience = source["serviceAccountToken"].get("audience")
            audiences = [audience] if audience else []
            token = self._server.token(self._namespace, self._account, *audiences, pod=self._name)
            return {source["serviceAccountToken"]["path"]: token.encode()}
        kind = "secret" if "secret" in source else "configMap"
        found = self._server.ask("GET", f"/api/v1/namespaces/{self._namespace}/{kind.lower()}s/{source[kind]['name']}")
        data = {
            name: base64.b64decode(each) if kind == "secret" else each.encode() for name, each in found["data"].items()
        }
        items = source[kind].get("items")
        return {each["path"]: data[each["key"]] for each in items} if items else data

    def _project(self, folder, files, mode):
        """Files behind two links, which are exchanged at once; root's, and with an fsGroup that group's to read."""
        group = self._pod.get("fsGroup")
        versioned = folder / "..2026_11_29"
        versioned.mkdir()
        for path, content in files.items():
            (versioned / path).write_bytes(content)
            (versioned / path).chmod(mode if group is None else mode | _GROUP_READS)
            (folder / path).symlink_to(Path("..data", path))
        (folder / "..data").symlink_to(versioned.name)
        if group is not None:
            for path in (folder, versioned, *versioned.iterdir()):
                os.chown(path, 0, group)


def _as(rights):
    """setpriv(1) for a container's user, groups and capabilities: those that are added reach user 0 alone."""
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"]["drop"] == ["ALL"]
    added = [f"+{each.lower()}" for each in rights["capabilities"].get("add", [])]
    groups = f"--groups={rights['fsGroup']}" if "fsGroup" in rights else "--clear-groups"
    who = [f"--reuid={rights['runAsUser']}", f"--regid={rights['runAsGroup']}", groups]
    return ["setpriv", *who, f"--bounding-set={','.join(['-all', *added])}", "--inh-caps=-all", "--no-new-privs"]


def stop_containers(processes):
    """End what `Node.start` began, as a kubelet does; each has to end with 0."""
    for process in processes:
        process.terminate()
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()

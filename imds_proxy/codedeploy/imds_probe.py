"""Whether this host looks like EC2 to the agent, which then takes its region from there and polls the wrong place.

In: the link-local address. Out: the status that `GET /latest/meta-data` has there. PROTOCOL.md 22; "Use the Instance
Metadata Service to access instance metadata" of the EC2 user guide.
"""

import http.client
from typing import Final

ADDRESS: Final = ("169.254.169.254", 80)
_TIME_LIMIT: Final = 1.0
_LONGEST_TOKEN: Final = 1024
_OK: Final = 200


def status(address: tuple[str, int] = ADDRESS) -> int | None:
    """The status, asked as the agent asks: with a session token if one is given, through no proxy; None: no answer."""
    code, token = _ask(address, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    headers = {"X-aws-ec2-metadata-token": token} if code == _OK else {}
    return _ask(address, "GET", "/latest/meta-data", headers)[0]


def _ask(address: tuple[str, int], method: str, path: str, headers: dict[str, str]) -> tuple[int | None, str]:
    connection = http.client.HTTPConnection(*address, timeout=_TIME_LIMIT)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(_LONGEST_TOKEN).decode("ascii").strip()
    except (OSError, http.client.HTTPException, ValueError):
        return None, ""
    finally:
        connection.close()

"""Keys on a token: which key a URI names, and what a token's refusals mean."""

import hashlib
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.sources.roles_anywhere import pkcs11
from support.certificates import KEYS
from support.softhsm import MODULE, PIN, SoftHsm, needs_softhsm


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pkcs11:token=host;object=key", pkcs11.KeyUri("host", None, "key", None)),
        ("pkcs11:object=my%20key;type=private;", pkcs11.KeyUri(None, None, "my key", None)),
        ("pkcs11:id=%01%AB;serial=00ff", pkcs11.KeyUri(None, b"00ff", None, b"\x01\xab")),
        ("pkcs11:token=M%C3%BCnchen;id=a", pkcs11.KeyUri("München", None, None, b"a")),
    ],
)
def test_a_uri_names_a_key(uri, expected):
    assert pkcs11.parse("host", uri) == expected


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pkcs11:", "does not name a private key"),
        ("pkcs11:token=host", "does not name a private key"),
        ("pkcs11:token=host;object=x;type=cert", "does not name a private key"),
        ("pkcs11:object=x;colour=red", "the attribute colour, which is not known"),
        ("pkcs11:object=%FF", "not UTF-8"),
    ],
)
def test_a_uri_that_names_none_says_why(uri, words):
    with pytest.raises(Invalid) as caught:
        pkcs11.parse("host", uri)
    assert words in caught.value.message
    assert "pkcs11:token=LABEL;object=LABEL" in caught.value.advice


def test_a_pin_in_the_uri_is_refused_and_not_repeated():
    """The config is no place for a secret, and neither is the log."""
    with pytest.raises(Invalid) as caught:
        pkcs11.parse("host", f"pkcs11:object=x?pin-value={PIN}")
    assert PIN not in caught.value.message + caught.value.advice
    assert "passphrase_file" in caught.value.advice


@pytest.fixture(scope="module")
def keys():
    return {kind: make() for kind, make in KEYS.items()}


@pytest.fixture(scope="module")
def hsm(tmp_path_factory, keys):
    """Two tokens; the library reads its config once in a process, so there is one for all tests here."""
    hsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    os.environ.update(hsm.environment)
    hsm.add_token("host")
    hsm.add_token("other")
    from support.certificates import Issued  # noqa: PLC0415 - keys alone, in the form of a file

    for number, (kind, key) in enumerate(keys.items(), 1):
        hsm.add_key("host", kind, f"{number:02x}", Issued(None, key).key_pem())
    hsm.add_key("host", "twice", "aa", Issued(None, keys["p256"]).key_pem())
    hsm.add_key("host", "twice", "bb", Issued(None, keys["p384"]).key_pem())
    yield hsm
    del os.environ["SOFTHSM2_CONF"]


def sign(uri, pin=PIN, module=MODULE, algorithm="RSA"):
    return pkcs11.TokenKey("host", module, uri).sign(b"message", pin=pin.encode() if pin else None, algorithm=algorithm)


@needs_softhsm
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("named", ["object", "id"])
def test_a_key_on_a_token_signs_as_one_in_a_file_does(hsm, keys, kind, named):
    number = list(KEYS).index(kind) + 1
    uri = f"pkcs11:token=host;object={kind}" if named == "object" else f"pkcs11:token=host;id=%{number:02x}"
    public = keys[kind].public_key()
    if kind == "rsa":
        public.verify(sign(uri), b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        digest, how = hashlib.sha256(b"message").digest(), ec.ECDSA(Prehashed(hashes.SHA256()))
        for _ in range(10):  # r and s have fewer bytes now and then
            public.verify(sign(uri, algorithm="ECDSA"), digest, how)


@needs_softhsm
def test_a_token_may_be_named_by_its_serial_number(hsm, keys):
    serial = next(token.serial for token in pkcs11.pkcs11.lib(MODULE).get_tokens(token_label="host")).decode()
    assert sign(f"pkcs11:serial={serial};object=rsa")
    with pytest.raises(Invalid, match="knows no token"):
        sign("pkcs11:serial=0000;object=rsa")


@needs_softhsm
@pytest.mark.parametrize(
    ("uri", "changes", "kind", "words"),
    [
        ("pkcs11:token=absent;object=rsa", {}, Invalid, "knows no token for token absent, object rsa"),
        ("pkcs11:object=rsa", {}, Invalid, "more than one key or token fits object rsa"),
        ("pkcs11:token=host;object=twice", {}, Invalid, "more than one key or token fits"),
        ("pkcs11:token=host;object=absent", {}, Invalid, "no private key on the token fits"),
        ("pkcs11:token=host;object=rsa", {"pin": None}, Invalid, "no private key on the token fits"),
        ("pkcs11:token=host;object=rsa", {"module": "/usr/lib/os-release"}, Invalid, "cannot be loaded as a PKCS #11"),
        ("pkcs11:token=host;object=rsa", {"module": "/absent.so"}, Invalid, "cannot be loaded as a PKCS #11"),
        ("pkcs11:token=host;object=rsa", {"algorithm": "ECDSA"}, Unreachable, "said "),
    ],
)
def test_what_a_token_refuses_is_told_in_the_operators_words(hsm, uri, changes, kind, words):
    with pytest.raises(SourceError) as caught:
        sign(uri, **changes)
    assert type(caught.value) is kind
    assert words in caught.value.message
    assert caught.value.advice


@needs_softhsm
def test_a_pin_that_is_no_text_is_named(hsm):
    with pytest.raises(Invalid, match="it is not UTF-8"):
        pkcs11.TokenKey("host", MODULE, "pkcs11:token=host;object=rsa").sign(b"", pin=b"\xff\xfe", algorithm="RSA")


@needs_softhsm
def test_a_wrong_pin_is_tried_once(hsm, monkeypatch):
    """A token locks itself after a few wrong ones, and renewal tries for ever."""
    key, logins = pkcs11.TokenKey("host", MODULE, "pkcs11:token=host;object=rsa"), []
    really = key._sign
    monkeypatch.setattr(key, "_sign", lambda *arguments: logins.append(1) or really(*arguments))
    for _ in range(3):
        with pytest.raises(Denied) as caught:
            key.sign(b"message", pin=b"000000", algorithm="RSA")
        assert "the token refused the PIN for token host, object rsa" in caught.value.message
        assert "000000" not in caught.value.message + caught.value.advice
    assert len(logins) == 1
    assert key.sign(b"message", pin=PIN.encode(), algorithm="RSA")


@needs_softhsm
def test_a_token_that_is_busy_does_not_hold_the_daemon_up(hsm, monkeypatch):
    monkeypatch.setattr(pkcs11, "_TIME_LIMIT", 0.1)
    with pkcs11._one_at_a_time, pytest.raises(Unreachable, match="is busy with another signature"):
        sign("pkcs11:token=host;object=rsa")

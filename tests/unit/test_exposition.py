"""The text of /metrics: the same as of one piece, once a second for each view, and never long on the loop."""

import asyncio
import gc
import gzip
import time
import zlib
from itertools import groupby

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.exposition import Exposition, compressed
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.metrics import Metrics, rendered
from imds_proxy.telemetry.stats import (
    BaseKeyStats,
    CertificateStats,
    FileStats,
    RenewalStats,
    RequestStats,
    RoleFigures,
    SessionTimes,
)

ARN = "arn:aws:iam::123456789012:role/Host"
NAMES = [f"role-{number}" for number in range(1000)]


class Counted(Metrics):
    """Metrics that count how often they are asked."""

    asked = 0

    def pieces(self, roles=None):
        self.asked += 1
        yield from self._without_the_process(super().pieces(roles))

    @staticmethod
    def _without_the_process(pieces):
        return (piece for piece in pieces if not piece.name.startswith("process_"))


def metrics(names=NAMES):
    requests, renewals = RequestStats(), RenewalStats()
    requests.record("imds_v2", "credentials", 200, 0.00002)
    for number, name in enumerate(names):
        renewals.record(name, "success", number / 100, number)
    renewals.files = {f'/run/a \\ "quoted"\n{number}': FileStats(1.5, number) for number in range(50)}
    renewals.base_key = BaseKeyStats(1_800_000_000)
    sessions = [SessionTimes(1_800_001_800, 1_800_000_000, 1_800_003_600), SessionTimes(1_800_000_000)]
    certificate = CertificateStats(1_800_000_000.5, 1)
    roles = {name: RoleFigures("roles-anywhere", ARN, sessions[: len(name) % 3], certificate) for name in names}
    return Counted(Measured(Clock(), requests, renewals, roles=lambda: roles))


def whole(pieces):
    """Families as one piece each, as a registry has them."""
    for _, parts in groupby(pieces, key=lambda piece: piece.name):
        first, *rest = parts
        family = Metric(first.name, first.documentation, first.type)
        family.samples = [sample for part in (first, *rest) for sample in part.samples]
        yield family


class Registry:
    def __init__(self, families):
        self._families = families

    def collect(self):
        return self._families


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], NAMES[:20], NAMES[:21], []])
@pytest.mark.parametrize("roles", [None, frozenset(NAMES[3:30]), frozenset()])
async def test_in_pieces_it_is_what_the_library_makes_of_the_whole(names, roles):
    """Prometheus would refuse a family that comes twice, and every series with it."""
    made = metrics(names)
    expected = generate_latest(Registry(list(whole(made.pieces(roles)))))
    assert await Exposition(made).text(roles) == expected
    families = [family.name for family in text_string_to_metric_families(expected.decode())]
    assert len(families) == len(set(families))


async def test_who_sees_some_roles_sees_nothing_of_the_others_or_of_files():
    """Labels hold role names and paths."""
    text = (await Exposition(metrics()).text(frozenset({"role-7"}), "limited: see allowed_users")).decode()
    assert text.startswith("# limited: see allowed_users\n# HELP ")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    labels = {label for sample in samples for label in sample.labels.items()}
    assert {value for name, value in labels if name == "role"} == {"role-7"}
    assert not {name for name, _ in labels} & {"path"}
    assert "base_key" not in text


async def test_those_who_ask_within_a_second_get_the_same():
    """Sixteen scrapers in a loop would take the processor from every client."""
    made = metrics()
    exposition = Exposition(made)
    texts = await asyncio.gather(*(exposition.text(None) for _ in range(50)))
    assert made.asked == 1
    assert len({id(text) for text in texts}) == 1
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:
        await asyncio.gather(*(exposition.text(None) for _ in range(16)))
        await asyncio.sleep(0.001)
    assert made.asked <= 3
    await exposition.text(frozenset({"role-1"}))
    assert made.asked <= 4


async def test_who_goes_away_does_not_take_the_text_from_the_others():
    """A scraper that times out would fail the next one too."""
    exposition = Exposition(metrics())
    first = asyncio.create_task(exposition.text(None))
    await asyncio.sleep(0)
    others = [asyncio.create_task(exposition.text(None)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert len(set(await asyncio.gather(*others))) == 1


async def test_a_failure_is_not_kept():
    """One bad moment would cost a second of scrapes, or all of them."""
    made = metrics(NAMES[:1])
    good, made.pieces = made.pieces, lambda _: iter([None])
    exposition = Exposition(made)
    with pytest.raises(AttributeError):
        await exposition.text(None)
    made.pieces = good
    assert b"role-0" in await exposition.text(None)


async def test_many_views_are_not_all_kept():
    """Each user with grants of its own has a view; their texts would fill the memory."""
    exposition = Exposition(metrics(NAMES[:50]))
    for number in range(50):
        await exposition.text(frozenset({NAMES[number]}))
    assert len(exposition._made) <= 16


async def test_the_compressed_text_is_made_of_the_same_and_once():
    """A pair of Prometheus servers would cost twice as much as one."""
    made = metrics()
    exposition = Exposition(made)
    plain, *packed = await asyncio.gather(exposition.text(None), *(exposition.text(None, gzip=True) for _ in range(20)))
    assert made.asked == 1
    assert len({id(text) for text in packed}) == 1
    assert gzip.decompress(packed[0]) == plain
    assert gzip.decompress(await exposition.text(frozenset(), "limited", gzip=True)).startswith(b"# limited\n# HELP")


async def test_a_failure_to_compress_is_not_kept(monkeypatch):
    """Every scrape of Prometheus, which always asks for gzip, would fail from then on."""
    made = metrics(NAMES[:1])
    good, made.pieces = made.pieces, lambda _: iter([None])
    exposition = Exposition(made)
    with pytest.raises(AttributeError):
        await exposition.text(None, gzip=True)
    made.pieces = good
    assert b"role-0" in gzip.decompress(await exposition.text(None, gzip=True))
    monkeypatch.setattr("imds_proxy.telemetry.exposition.zlib.compressobj", lambda *_: 1 / 0)
    made.asked, exposition = 0, Exposition(made)
    with pytest.raises(ZeroDivisionError):
        await exposition.text(None, gzip=True)
    monkeypatch.undo()
    assert b"role-0" in gzip.decompress(await exposition.text(None, gzip=True))


def a_large_host():
    """A thousand roles in use, 50 of them with a certificate, and 50 files."""
    renewals, roles = RenewalStats(), {}
    for number in range(1000):
        name, obtained = f"payments-{number:03}", 1_800_000_000 + number * 1.7320508
        for outcome in ("success", "denied", "unreachable"):
            renewals.record(name, outcome, 0.3, obtained)
        times = SessionTimes(obtained + 1650.57721, obtained, float(round(obtained) + 3600))
        certificate = CertificateStats(1_850_000_000.0, 0) if number < 50 else None
        arn = f"arn:aws:iam::123456789012:role/{name}"
        roles[name] = RoleFigures("roles-anywhere" if certificate else "assume-role", arn, [times], certificate)
        if number < 50:
            renewals.files[f"/var/lib/imds-proxy/files/{name}/credentials"] = FileStats(obtained, 0)
    renewals.base_key = BaseKeyStats(1_800_000_000)
    return Metrics(Measured(Clock(), RequestStats(), renewals, roles=lambda: roles))


def test_a_thousand_roles_are_a_scrape_of_a_size_that_prometheus_takes():
    """Each scrape of each host goes over the network, and is parsed, four times a minute."""
    text = a_large_host().exposition()
    packed = b"".join(compressed(text))
    print(f"\n1,000 roles: {text.count(b'payments-')} names, {len(text)} bytes, {len(packed)} bytes compressed")
    assert len(text) < 800_000
    assert len(packed) < 80_000
    assert zlib.decompress(packed, 31) == text


def test_a_thousand_roles_do_not_hold_the_loop():
    """Every client of the data plane waits for as long as a piece takes."""
    number, longest = slowest(lambda: rendered(metrics().pieces()))
    print(f"\nrendered in {number} pieces, the longest in {longest * 1000:.2f} ms")
    assert number > 200
    assert longest < 0.01


def test_compressing_a_thousand_roles_does_not_hold_the_loop():
    """The same, of the part that Prometheus asks for besides."""
    text = a_large_host().exposition()
    number, longest = slowest(lambda: compressed(text))
    print(f"\ncompressed in {number} pieces, the longest in {longest * 1000:.2f} ms")
    assert number > 20
    assert longest < 0.01


def slowest(make):
    """How many pieces there are, and the processor time of the slowest: the best of three, as others work here too."""
    taken = {}
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            number, pieces = 0, make()
            while True:
                begun = time.process_time()
                if next(pieces, None) is None:
                    break
                taken[number] = min(taken.get(number, 1.0), time.process_time() - begun)
                number += 1
    finally:
        gc.enable()
    return number, max(taken.values())

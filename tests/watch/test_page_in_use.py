"""The status page in use: by keyboard, by a screen reader, on a phone, with a thousand roles and with hostile texts."""

import itertools
import random
import re
import time

import pytest
from playwright.sync_api import expect

from imds_proxy.admin import gate
from support.browser import DESK, PHONE
from support.daemon import wait
from support.shown_roles import ShownRoles

HOSTILE = '</script><img src=x onerror="alert(1)"><svg onload=alert(2)>{{7*7}} ${alert(3)} \u202egnp\u0000'
UNREACHABLE = 'role "{0}": sts:AssumeRole on arn:aws:iam::123456789012:role/{0}: could not connect to the endpoint URL'
ADVICE = "check DNS, route, firewall and HTTPS_PROXY towards sts.eu-west-1.amazonaws.com; it is retried"
SCHEMES = ["light", "dark"]
SIZES = {"desk": DESK, "phone": PHONE}
each_look = pytest.mark.parametrize(("scheme", "size"), list(itertools.product(SCHEMES, SIZES)))


@pytest.fixture
def shown():
    """Four roles that are well, with a day behind them and an outage in it."""
    with ShownRoles(["base", "deploy", "logs", "backup"]) as roles:
        for number, name in enumerate(["base", "deploy", "logs", "backup"]):
            roles.hold(name, age=200 + 300 * number)
            roles.remember(name, *day(number))
        yield roles


def day(seed):
    """Renewals of most of a day, and a quarter of an hour of failures."""
    chance = random.Random(seed)
    renewals = [(80_000 - 1650 * number + 60 * chance.random(), "success") for number in range(48)]
    return sorted(renewals + [(43_000 - 60 * number, "unreachable") for number in range(15)], reverse=True)


def look_of(browser_size, scheme):
    return {"viewport": SIZES[browser_size], "color_scheme": scheme}


def in_trouble(roles):
    """One role is dead, another will be."""
    roles.hold("logs", age=3700)
    roles.fail("logs", UNREACHABLE.format("logs"), ADVICE, "unreachable")
    roles.hold("deploy", age=3000)
    roles.fail("deploy", UNREACHABLE.format("deploy"), ADVICE, "unreachable")


def names(seen):
    """Of the roles that the filter leaves, in the order of their cards."""
    headings = "[...document.querySelectorAll('li.card:not([hidden]) h3')]"
    return seen.page.evaluate(f"{headings}.map((heading) => heading.textContent)")


def says(seen, text):
    expect(seen.page.locator("#headline")).to_have_text(re.compile(text))


@each_look
def test_it_is_readable_when_all_is_well(shown, visit, scheme, size):
    """Who reads with a screen reader, at night or on a phone would not be told."""
    seen = visit(shown.url, **look_of(size, scheme))
    says(seen, "^All well: 4 roles are kept fresh")
    seen.screenshot(f"well-{scheme}-{size}")
    check_look(seen)


@each_look
def test_it_is_readable_when_something_is_wrong(shown, visit, scheme, size):
    """Then above all."""
    in_trouble(shown)
    seen = visit(shown.url, **look_of(size, scheme))
    says(seen, "^logs has no live credentials: AWS cannot be reached")
    seen.page.locator("summary").first.click()
    seen.screenshot(f"trouble-{scheme}-{size}")
    check_look(seen)


@each_look
def test_it_is_readable_when_the_daemon_is_gone(visit, scheme, size):
    """It is the page's own state, which no document of the daemon's brings."""
    with ShownRoles(["deploy"]) as roles:
        roles.hold("deploy")
        seen = visit(roles.url, **look_of(size, scheme))
        says(seen, "^All well")
    says(seen, "^The daemon does not answer")
    seen.screenshot(f"gone-{scheme}-{size}")
    check_look(seen, unanswered=True)


def check_look(seen, *, unanswered=False):
    """Nothing for axe to find, and nothing to scroll sideways for."""
    seen.check_accessibility()
    width, window = seen.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width == window
    seen.check(unanswered=unanswered)


def test_the_keyboard_reaches_everything_and_shows_where_it_is(shown, visit):
    """Who has no mouse could not read why a role fails."""
    seen = visit(shown.url)
    expect(seen.page.locator("li.card")).to_have_count(4)
    reached = []
    for _ in range(6):
        seen.page.keyboard.press("Tab")
        label, style, width = seen.page.evaluate(
            """() => {
                const focused = document.activeElement;
                const { outlineStyle, outlineWidth } = getComputedStyle(focused);
                const label = focused.id || focused.getAttribute("aria-label") || focused.textContent;
                return [label, outlineStyle, parseFloat(outlineWidth)];
            }"""
        )
        reached.append(label)
        assert (style, width) == ("solid", 3), label
    cards = [f"Details of {name}" for name in names(seen)]
    assert reached == ["Skip to the roles", "filter", *cards]
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator("details[open] dl")).to_contain_text("arn:aws:sts::123456789012:assumed-role/")


def test_an_update_leaves_the_reader_where_it_is(shown, visit):
    """Every two seconds the reader would lose its place, its open card or what it has marked."""
    seen = visit(shown.url, viewport=PHONE)
    card = seen.card("logs")
    summary = card.locator("summary")
    summary.focus()
    seen.page.keyboard.press("Enter")
    expect(card.locator("dl")).to_be_visible()
    assert names(seen)[0] != "logs"
    in_trouble(shown)
    wait(lambda: names(seen)[0] == "logs", 10, "the role with trouble comes first")
    assert seen.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Details of logs"
    expect(card.locator("dl")).to_be_visible()
    top = seen.page.evaluate("scrollTo(0, 900), scrollY")
    seen.page.evaluate("getSelection().selectAllChildren(document.querySelector('#roles .origin'))")
    with seen.page.expect_response("**/status.json"), seen.page.expect_response("**/status.json"):
        pass
    # Where a line is added above, the browser scrolls by it, so that what is read stays.
    assert seen.page.evaluate("scrollY") == pytest.approx(top, abs=60)
    assert top > 60
    assert seen.page.evaluate("getSelection().toString()").strip() == "AssumeRole"


def test_a_thousand_roles_stay_usable(visit):
    """The browser would stand still at each letter of the filter: three seconds it has taken."""
    all_names = [f"role-{number:04}" for number in range(1000)]
    with ShownRoles(all_names) as roles:
        for number, name in enumerate(all_names):
            roles.hold(name, age=number % 1700)
            roles.remember(name, *day(number)[::4])
        for name in ("role-0777", "role-0400"):
            roles.hold(name, age=3000)
            roles.fail(name, UNREACHABLE.format(name), ADVICE, "unreachable")
        seen = visit(roles.url)
        says(seen, "^2 roles cannot be renewed: AWS cannot be reached. The first, role-0")
        expect(seen.page.locator("#counts")).to_have_text("2 failing · 998 ok")
        assert sorted(names(seen)[:2]) == ["role-0400", "role-0777"]
        assert seen.page.locator("#timeline li").count() == 40
        seen.screenshot("thousand", whole=False)
        seen.page.evaluate(
            "globalThis.long = [0], new PerformanceObserver((seen) => long.push(...seen.getEntries().map("
            "(entry) => entry.duration))).observe({ type: 'longtask' }), 0"
        )
        box = seen.page.get_by_label("Filter")
        box.press_sequentially("role-07")
        expect(seen.page.locator("#matches")).to_have_text("100 roles of 1,000 match.")
        assert names(seen)[0] == "role-0777"
        box.fill("")
        expect(seen.page.locator("#matches")).to_be_hidden()
        with seen.page.expect_response("**/status.json", timeout=60_000):
            pass
        time.sleep(1)
        longest = seen.page.evaluate("Math.max(...long)")
        print(f"longest task of the page: {longest} ms")
        assert longest < 1000  # milliseconds; on a machine that does nothing else it is a tenth of it
        seen.check()


def test_hostile_texts_are_shown_and_do_nothing(shown, visit):
    """Whoever can shape an error text would act in the operator's browser."""
    shown.fail("deploy", HOSTILE, HOSTILE, "unreachable")
    seen = visit(shown.url)
    card = seen.card("deploy")
    expect(card.locator(".message")).to_contain_text('</script><img src=x onerror="alert(1)">')
    expect(seen.page.locator("#advice")).to_contain_text("<svg onload=alert(2)>{{7*7}} ${alert(3)}")
    card.locator("summary").click()
    assert seen.page.locator("img, svg:not(#timeline svg), script:not(head script)").count() == 0
    seen.check()


def test_the_browser_itself_would_stop_markup_and_scripts(shown, visit):
    """A mistake in the page would be all that somebody else's text needs."""
    seen = visit(shown.url)
    attempts = """async () => {
        const failed = [];
        const attempt = (name, action) => { try { action(); } catch (error) { failed.push(name + " " + error.name); } };
        attempt("markup", () => { document.body.innerHTML = "<p>x"; });
        attempt("eval", () => (0, eval)("1"));
        const script = document.createElement("script");
        attempt("script", () => { script.text = "globalThis.ran = true"; });
        const image = new Image();
        const loaded = new Promise((done) => {
            image.onload = () => done("loaded");
            image.onerror = () => done("stopped");
        });
        image.src = "http://127.0.0.1:9/x.png";
        const sent = await fetch("http://127.0.0.1:9/").then(() => "sent", () => "stopped");
        return [failed, await loaded, sent, globalThis.ran ?? "never"];
    }"""
    failed, loaded, sent, ran = seen.page.evaluate(attempts)
    assert {"markup TypeError", "script TypeError"} <= set(failed)
    assert (loaded, sent, ran) == ("stopped", "stopped", "never")
    assert sum("Content Security Policy" in text for text in seen.console) >= 2


def test_a_user_who_asks_too_often_is_told(visit, monkeypatch):
    """The page would stand still without a reason."""
    monkeypatch.setattr(gate, "COSTLY_RATE", 0.3)  # the page's own polls are more
    with ShownRoles(["deploy"]) as roles:
        roles.hold("deploy")
        seen = visit(roles.url)
        says(seen, "^All well")
        says(seen, "^The daemon is asked too often by this user")
        assert "goes on by itself" in seen.text("#advice")
        expect(seen.page.locator("#others")).to_contain_text("Last known: All well")
        says(seen, "^All well")


def test_the_browsers_clock_may_be_wrong(shown, visit):
    """On a laptop whose clock is off everything would have expired."""
    seen = visit(shown.url, prepare=lambda page: page.clock.set_fixed_time("2031-01-01T00:00:00"))
    says(seen, "^All well")
    expect(seen.card("base").locator(".left")).to_have_text(re.compile(r"^5[56] min left$"))


def test_a_tab_that_nobody_sees_asks_seldom(shown, visit):
    """A tab that was forgotten would keep a host at work for weeks."""
    hidden = "Object.defineProperty(document, 'hidden', { get: () => true })"
    seen = visit(shown.url, prepare=lambda page: page.add_init_script(hidden))
    says(seen, "^All well")
    seen.page.wait_for_timeout(6000)
    assert sum("status.json" in url for url in seen.requests) == 1


def test_who_wants_no_motion_gets_none(shown, visit):
    """Bars that move make some readers ill."""
    seen = visit(shown.url, reduced_motion="reduce")
    bars = seen.page.locator(".life i")
    expect(bars).to_have_count(4)
    assert bars.first.evaluate("bar => getComputedStyle(bar).transitionProperty") == "none"


def test_a_change_is_announced_and_a_countdown_is_not(shown, visit):
    """A screen reader would read the remaining minutes out for ever, or never say that something broke."""
    seen = visit(shown.url)
    says(seen, "^All well")
    seen.page.evaluate(
        "globalThis.spoken = [], new MutationObserver(() => spoken.push(announcement.textContent))"
        ".observe(announcement, { childList: true, characterData: true, subtree: true })"
    )
    shown.hold("deploy", age=3560)
    shown.fail("deploy", UNREACHABLE.format("deploy"), ADVICE, "unreachable")
    says(seen, "^deploy expires in")
    first = seen.text("#headline")
    wait(lambda: seen.text("#headline") != first, 10, "the countdown goes on")
    assert len(seen.page.evaluate("spoken")) == 1

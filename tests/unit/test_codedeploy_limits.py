"""What CodeDeploy would refuse is refused here, in words."""

import pytest

from imds_proxy.codedeploy.validation import instance_name, tags
from imds_proxy.errors import ConfigError


@pytest.mark.parametrize("name", ["a", "web-1.example.com", "A_b+c=d,e@f-9", "w" * 100, "mi-0123456789abcdef0", "I-1"])
def test_names_that_codedeploy_takes(name):
    assert instance_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is empty"),
        ("w" * 101, "has 101 characters"),
        ("web 1", "letters, digits"),
        ("wéb", "letters, digits"),
        ("web/1", "letters, digits"),
        ("web-1\n", "letters, digits"),
        ("02:00:5e:00:53:01", "a MAC address may be written with -"),
        ("i-0123456789abcdef0", "as instances of EC2 do"),
    ],
)
def test_names_that_it_does_not_take(name, says):
    """An answer of AWS's that says InvalidInstanceNameException and no more."""
    with pytest.raises(ConfigError) as error:
        instance_name(name)
    assert says in error.value.message


def test_every_mistake_of_a_name_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        instance_name("i-" + ":" * 100)
    assert len(error.value.mistakes) == 3


def test_tags_hold_what_was_typed():
    """A value that is cut at its second equals sign."""
    assert tags(["site=Lyon", "query=a=b", "name=with blanks", "k" * 128 + "=" + "v" * 256]) == {
        "site": "Lyon",
        "query": "a=b",
        "name": "with blanks",
        "k" * 128: "v" * 256,
    }
    assert tags([]) == {}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["site"], "expected KEY=VALUE"),
        (["site="], "expected KEY=VALUE"),
        (["=Lyon"], "expected KEY=VALUE"),
        (["k" * 129 + "=v"], "a key of 129 characters"),
        (["k=" + "v" * 257], "a value of 257 characters"),
        (["a=1", "a=2"], "a: is given twice"),
        ([f"k{n}=v" for n in range(11)], "11 tags"),
    ],
)
def test_tags_that_codedeploy_does_not_take(values, says):
    """CodeDeploy has no tags without a value, unlike EC2."""
    with pytest.raises(ConfigError) as error:
        tags(values)
    assert says in error.value.message

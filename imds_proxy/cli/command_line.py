"""Words for a command line that cannot be understood: the usage of the verb that was given, and what was meant."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from imds_proxy.printable import printable

USAGE: Final = 2
_CLOSE: Final = 0.6


class Parser(argparse.ArgumentParser):
    """A parser whose verbs, made of this class too, speak for themselves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.color = False  # of Python 3.14: escape codes

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is left over here: argparse would have the first parser do so, with its own usage."""
        options, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}{self._hint(left)}")
        return options, left

    def error(self, message: str) -> NoReturn:
        """As argparse does, on one line whatever was given."""
        super().error(printable(message))

    def add_verbs(self, *, title: str, metavar: str) -> Any:
        """As `add_subparsers`; without any of them the help is shown, and the exit code is that of wrong usage."""
        self.set_defaults(run=self._none_given)
        return self.add_subparsers(title=title, metavar=metavar)

    def _none_given(self, _: argparse.Namespace) -> int:
        self.print_help(sys.stderr)
        return USAGE

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does, with the nearest choice in place of a long list."""
        if action.choices is not None and value not in action.choices:
            near = _nearest(str(value), [str(choice) for choice in action.choices])
            if near:
                raise argparse.ArgumentError(action, f"invalid choice: {value!r}; did you mean {near}?")
        super()._check_value(action, value)

    def _hint(self, left: Sequence[str]) -> str:
        option = left[0].partition("=")[0]
        if self._subparsers is not None and option.startswith("-"):
            return f"; options of a verb come after it: {self.prog} VERB {option}"
        near = _nearest(option, list(self._option_string_actions)) if option.startswith("-") else ""
        return f"; did you mean {near}?" if near else ""


def _nearest(word: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_CLOSE)), "")

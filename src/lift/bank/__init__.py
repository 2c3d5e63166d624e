"""A class as a set of rows in text space: named, described, shown, learned."""

from lift.bank.value import Bank as Bank
from lift.bank.value import Fired as Fired

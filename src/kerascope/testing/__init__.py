"""Contracts that every method and every rule keeps, as functions: for the library's own and for yours.

`check_method` and `check_rule` raise a `ContractError` that names the contract broken; no registration and no
test framework is needed.
"""

from kerascope.testing.bench import Bench, ContractError, model_state
from kerascope.testing.methods import check_method
from kerascope.testing.rules import check_rule

__all__ = ["Bench", "ContractError", "check_method", "check_rule", "model_state"]

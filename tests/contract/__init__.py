"""The contract on trial: schemathesis makes calls from the OpenAPI document and judges every answer by it."""

# The variable of the environment by which `hooks.py` learns where the files of the trial lie.
ORIGIN = "CONTRACT_ORIGIN"

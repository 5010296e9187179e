"""The contract on trial: schemathesis makes calls from the OpenAPI document and judges every answer by it."""

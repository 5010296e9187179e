"""The API as it is told: the OpenAPI document, the pages for people, what every code means."""

"""The HTTP client of the service."""

from retort.client.client import Client
from retort.client.transport import ClientError

__all__ = ["Client", "ClientError"]

"""The HTTP client of the service."""

from retort.client.async_client import AsyncClient
from retort.client.client import Client
from retort.client.transport import ClientError

__all__ = ["AsyncClient", "Client", "ClientError"]

"""An S3 server on this machine that refuses what is not signed, altered, or expired."""

from __future__ import annotations

import datetime as dt
import hmac
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

KEY, SECRET, REGION = "AKIATESTOFRETORT", "a secret of the tests alone", "us-east-1"
_TIME = "%Y%m%dT%H%M%SZ"


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:  # type: ignore[override]
        pass


@dataclass
class S3Server:
    """moto's S3 behind a check of signatures: its own takes every request."""

    later_s: float = 0.0
    """By so much the server's clock is ahead."""
    to_refuse: int = 0
    """So many of the next signed addresses to send to count as over."""
    refused: list[str] = field(default_factory=list)
    """Method and path of what was not let through."""
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and bytes of what was."""

    def __post_init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._checked, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )

    def close(self) -> None:
        """Stop to serve."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """What a store needs to find the server, and to sign."""
        return {
            "AWS_ENDPOINT": self.url, "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip

    def bucket(self) -> Bucket:
        """Make a bucket of a test's own."""
        self.later_s, self.to_refuse = 0.0, 0
        self.refused.clear()
        self.asked.clear()
        name = f"retort-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return Bucket(self, name)

    def _checked(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        path = urlsplit(environ["REQUEST_URI"]).path
        if request.method != "OPTIONS" and (why := self._refusal(request, environ["REQUEST_URI"])):
            self.refused.append(f"{request.method} {path}")
            body = f"<Error><Code>{why}</Code><Message>{why}</Message></Error>"
            return Response(body, 403, mimetype="application/xml")(environ, start)
        self.asked.append((request.method, path, request.content_length or 0))
        return self._application(environ, start)  # type: ignore[no-any-return]

    def _refusal(self, request: Request, uri: str) -> str | None:
        """Return why a request is not let through; the signature is computed by Amazon's own signer."""
        told = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
        now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.later_s)
        if "X-Amz-Signature" in told:
            signed_at = dt.datetime.strptime(told["X-Amz-Date"], _TIME).replace(tzinfo=dt.UTC)
            if request.method == "PUT" and self.to_refuse > 0:
                self.to_refuse -= 1
                return "AccessDenied"
            if now > signed_at + dt.timedelta(seconds=int(told["X-Amz-Expires"])):
                return "AccessDenied"
            given, names, signer = told["X-Amz-Signature"], told["X-Amz-SignedHeaders"], S3SigV4QueryAuth
            parts, time = urlsplit(uri), told["X-Amz-Date"]
            rest = [
                (name, value)
                for name, value in parse_qsl(parts.query, keep_blank_values=True)
                if name != "X-Amz-Signature"
            ]
            uri = f"{parts.path}?{urlencode(rest)}"
        elif authorization := request.headers.get("Authorization"):
            fields = dict(one.strip().split("=", 1) for one in authorization.partition(" ")[2].split(","))
            given, names, signer = fields["Signature"], fields["SignedHeaders"], S3SigV4Auth
            time = request.headers["X-Amz-Date"]
        else:
            return "AccessDenied"
        headers = {name: request.headers[name] for name in names.split(";")}
        wanted = AWSRequest(method=request.method, url=f"http://{request.host}{uri}", headers=headers)
        wanted.context["timestamp"] = time
        auth = signer(Credentials(KEY, SECRET), "s3", REGION)
        found = auth.signature(auth.string_to_sign(wanted, auth.canonical_request(wanted)), wanted)
        return None if hmac.compare_digest(found, given) else "SignatureDoesNotMatch"


@dataclass
class Bucket:
    """A bucket of a test's own."""

    server: S3Server
    name: str

    @property
    def url(self) -> str:
        """The store's address."""
        return f"s3://{self.name}/retort"

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below the store's prefix."""
        found = self.server.client.list_objects_v2(Bucket=self.name, Prefix=f"retort/{prefix}")
        return [one["Key"].removeprefix("retort/") for one in found.get("Contents", [])]

    def put(self, key: str, data: bytes) -> None:
        """Put an object past every door."""
        self.server.client.put_object(Bucket=self.name, Key=f"retort/{key}", Body=data)

    def unfinished(self) -> int:
        """Return how many multipart uploads have neither ended nor been aborted."""
        return len(self.server.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))

"""What the provider of the tests adds to Django OAuth Toolkit: claims, a login page, the pace of devices."""

from __future__ import annotations

import json
import time
from typing import Any

from django.contrib.auth.views import LoginView
from django.http import HttpResponse, JsonResponse
from django.template import engines
from django.urls import include, path
from oauth2_provider.models import get_device_grant_model
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.views import ConnectDiscoveryInfoView, DeviceAuthorizationView, TokenView
from oauthlib.openid import Server as OpenIdServer
from support.openid_provider import PEOPLE


class Validator(OAuth2Validator):
    """Says of each person what ``PEOPLE`` does."""

    oidc_claim_scope = None

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        return PEOPLE[request.user.username]

    def validate_device_code(self, client_id: str, code: str, request: Any, *_: Any, **__: Any) -> str | None:
        """Take an approved code, once; oauthlib 4 asks, and Django OAuth Toolkit does not answer yet."""
        grants = get_device_grant_model().objects
        grant = grants.filter(client_id=client_id, device_code=code, status="authorized").first()
        if grant is None:
            return None
        request.user, request.scopes = grant.user, grant.scope.split()
        grant.delete()
        return "authorized"


class Server(OpenIdServer):
    """Gives devices an ID token too."""

    def __init__(self, request_validator: Any, **options: Any) -> None:
        super().__init__(request_validator, **options)
        openid = self.openid_connect_auth

        class _DeviceGrant(type(self.device_code_grant)):
            def create_token_response(self, request: Any, token_handler: Any) -> Any:
                headers, body, status = super().create_token_response(request, token_handler)
                if status == 200:
                    body = json.dumps(openid.add_id_token(json.loads(body), token_handler, request))
                return headers, body, status

        grant = _DeviceGrant(request_validator)
        grant.custom_validators.pre_token.extend(self.device_code_grant.custom_validators.pre_token)
        self._grant_types["urn:ietf:params:oauth:grant-type:device_code"] = grant


class Discovery(ConnectDiscoveryInfoView):
    """Names the address of device codes, too."""

    def get(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        said = json.loads(super().get(request, *args, **kwargs).content)
        address = request.build_absolute_uri("/o/device-authorization/")
        return JsonResponse({**said, "device_authorization_endpoint": address})


class Device(DeviceAuthorizationView):
    """Leaves out what oauthlib 4 adds to its answer, and Django OAuth Toolkit does not know yet."""

    def create_device_authorization_response(self, request: Any) -> Any:
        headers, response, status = super().create_device_authorization_response(request)
        if status == 200:
            response.pop("scope", None)
        return headers, response, status


class Token(TokenView):
    """Tells a device that asks twice within a minute, once, to slow down (RFC 8628, 3.5)."""

    asked: dict[str, float] = {}  # noqa: RUF012 - of the process

    def device_flow_token_response(self, request: Any, device_code: str, *args: Any, **kwargs: Any) -> HttpResponse:
        before = self.asked.pop(device_code, None)
        if before is not None and time.monotonic() - before < 60:
            return JsonResponse({"error": "slow_down"}, status=400)
        self.asked[device_code] = time.monotonic()
        return super().device_flow_token_response(request, device_code, *args, **kwargs)


class Login(LoginView):
    """A page with a form."""

    def render_to_response(self, context: dict[str, Any], **_: Any) -> HttpResponse:
        page = (
            '<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}"></form>'
        )
        return HttpResponse(engines["django"].from_string(page).render(context, self.request))


urlpatterns = [
    path("login/", Login.as_view()),
    path("o/.well-known/openid-configuration", Discovery.as_view()),
    path("o/device-authorization/", Device.as_view()),
    path("o/token/", Token.as_view()),
    path("o/", include("oauth2_provider.urls")),
]

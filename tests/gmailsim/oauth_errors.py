# oauth_errors - the token endpoint's refusals, by name
# SPDX-License-Identifier: Apache-2.0
"""Every refusal of the token endpoint that is known, with the HTTP status,
error, description and subtype it comes with."""

from .webserver import Response

_TIMEFRAME = ("Invalid JWT: Token must be a short-lived token (60 minutes) "
              "and in a reasonable timeframe. Check your iat and exp values "
              "in the JWT claim.")
_UNAUTHORIZED = ("Client is unauthorized to retrieve access tokens using this "
                 "method, or client not authorized for any of the scopes "
                 "requested.")
# name -> HTTP status, error, description, subtype
ROWS = {
    "revoked": (400, "invalid_grant", "Token has been expired or revoked."),
    "bad_grant": (400, "invalid_grant", "Bad Request"),
    "no_verifier": (400, "invalid_grant", "Missing code verifier."),
    "verifier": (400, "invalid_grant", "Invalid code verifier."),
    "invalid_rapt": (400, "invalid_grant",
                     "reauth related error (invalid_rapt)", "invalid_rapt"),
    "rapt_required": (400, "invalid_grant",
                      "reauth related error (rapt_required)",
                      "rapt_required"),
    "jwt_signature": (400, "invalid_grant", "Invalid JWT Signature."),
    "jwt_timeframe": (400, "invalid_grant", _TIMEFRAME),
    "jwt_account": (400, "invalid_grant", "Invalid grant: account not found"),
    "jwt_sub": (400, "invalid_grant", "Invalid email or User ID"),
    "jwt_sub_syntax": (400, "invalid_grant", "Not a valid email"),
    "jwt_audience": (400, "invalid_grant",
                     "Invalid JWT: Failed audience check."),
    "jwt_iat": (400, "invalid_grant", "Invalid JWT: iat field is not set."),
    "jwt_exp": (400, "invalid_grant", "Invalid JWT: exp field is not set."),
    "bad_request": (400, "invalid_request", "Bad Request"),
    "missing_field": (400, "invalid_request",
                      "Missing required parameter: {field}"),
    "invalid_scope": (400, "invalid_scope", "Invalid OAuth scope or ID token "
                      "audience provided."),
    "unsupported_grant": (400, "unsupported_grant_type",
                          "Invalid grant_type: {field}"),
    "redirect_uri": (400, "redirect_uri_mismatch", "Bad Request"),
    "client_not_found": (401, "invalid_client",
                         "The OAuth client was not found."),
    "client_secret": (401, "invalid_client", "Unauthorized"),
    "deleted_client": (401, "deleted_client",
                       "The OAuth client was deleted."),
    "disabled_client": (401, "disabled_client",
                        "The OAuth client was disabled."),
    "unauthorized_client": (401, "unauthorized_client", _UNAUTHORIZED),
    "unauthorized_scope": (401, "unauthorized_client",
                           "Unauthorized client or scope in request."),
    "access_denied": (403, "access_denied", "Access denied."),
    "admin_policy": (400, "admin_policy_enforced", "Access to your account "
                     "data is restricted by policies within your "
                     "organization."),
    "org_internal": (403, "org_internal", "This client is restricted to users "
                     "within its organization."),
    "internal_failure": (500, "internal_failure", "Backend Error"),
    "rate_limited": (429, "rate_limit_exceeded", "Rate Limit Exceeded"),
}
SORRY = """<html><head><meta http-equiv="content-type" content="text/html; \
charset=utf-8"/><title>Sorry...</title></head><body><h1>We're sorry...</h1>\
<p>... but your computer or network may be sending automated queries. To \
protect our users, we can't process your request right now.</p></body></html>
"""


class GrantError(Exception):
    """Refusal by a row of ROWS."""

    def __init__(self, row, field=""):
        super().__init__(row)
        self.row = row
        self.field = field


def error_response(status, error, description, subtype=None):
    body = {"error": error, "error_description": description}
    if subtype:
        body["error_subtype"] = subtype
    return Response.of_json(body, status, indent=2)


def row_response(name, field=""):
    status, error, description, *subtype = ROWS[name]
    return error_response(status, error, description.format(field=field),
                          *subtype)

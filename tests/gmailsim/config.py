# config - the configuration file and its defaults
# SPDX-License-Identifier: Apache-2.0
"""What can be configured, checked before anything is started."""

import json

PORTS = ("smtps", "submission", "relay", "relay_smtps", "imaps", "pops",
         "token", "control")
# name -> (default, types)
_NUMBER = (int, float)
SETTINGS = {
    "size": (35882577, int),            # octets, as EHLO announces
    "max_recipients": (100, int),
    "max_age_s": (3600, _NUMBER),       # of a session, 0 = no end
    "idle_s": (600, _NUMBER),
    "close_on_token_expiry": (True, bool),
    "push_expiry": (False, bool),       # 421 unasked, not at the next command
    "strict_helo": (False, bool),       # refuse localhost and the like
    "max_unknown_commands": (10, int),
    "max_unauthenticated_commands": (100, int),
    "ehlo_without": ([], list),         # keywords left out of EHLO
    "expires_in": (3599, _NUMBER),      # seconds an access token lives
    "rotate_refresh_tokens": (False, bool),
    "clock_skew_s": (0, _NUMBER),       # of the token endpoint's clock
    "consent_account": (None, (str, type(None))),
    "consent_page": (False, bool),      # show a page, do not consent at once
    "consent_scope": (None, (str, type(None))),     # what the person allows
    "profile": ("2025", str),
}
_KEYS = {
    "host": str, "ports": dict, "state_dir": str, "journal_dir": str,
    "ready": str, "settings": dict, "accounts": list, "auto_accounts": list,
    "clients": list, "service_accounts": list, "relay": dict, "faults": list,
    "latency": dict, "window_s": _NUMBER, "internal_domains": list,
    "token_length": int,
}
_CLIENT_KEYS = {"client_id", "client_secret", "type", "redirect_uris",
                "deleted", "disabled"}
_SERVICE_KEYS = {"email", "client_id", "scopes", "public_key_file",
                 "public_key", "kid", "generate", "deleted"}
DEFAULT_CLIENT = {"client_id": "sim-client.apps.googleusercontent.com",
                  "client_secret": "sim-secret"}


class ConfigError(ValueError):
    """Something in the configuration is wrong; the text says what."""


def _check(where, value, kinds):
    """ConfigError unless every key of `value` is known and of its type."""
    for key, item in value.items():
        if key not in kinds:
            raise ConfigError("%s: unknown key %r (there are %s)" % (
                where, key, ", ".join(sorted(kinds))))
        kind = kinds[key]
        if not isinstance(item, kind) or \
                (isinstance(item, bool) and kind in (int, _NUMBER)):
            raise ConfigError("%s: %s: bad value %r" % (where, key, item))


def check_settings(changes):
    """`changes` if all are known settings of the right type."""
    _check("settings", changes, {k: v[1] for k, v in SETTINGS.items()})
    return changes


def settings(changes):
    """All settings, defaults where nothing is said."""
    result = {key: value for key, (value, _) in SETTINGS.items()}
    result.update(check_settings(changes))
    return result


def check(config):
    """ConfigError unless `config` has the right form."""
    if not isinstance(config, dict):
        raise ConfigError("the configuration must be an object")
    _check("configuration", config, _KEYS)
    _check("ports", config.get("ports", {}), {p: int for p in PORTS})
    check_settings(config.get("settings", {}))
    _check("relay", config.get("relay", {}),
           {"allow": list, "daily": dict, "peak": dict})
    for name, keys, needed in (
            ("clients", _CLIENT_KEYS, "client_id"),
            ("service_accounts", _SERVICE_KEYS, "email"),
            ("accounts", None, "address"), ("auto_accounts", None, "domain")):
        for entry in config.get(name, []):
            if not isinstance(entry, dict) or needed not in entry:
                raise ConfigError("%s: an entry needs %s" % (name, needed))
            if keys and set(entry) - keys:
                raise ConfigError("%s: unknown key %s (there are %s)" % (
                    name, ", ".join(sorted(set(entry) - keys)),
                    ", ".join(sorted(keys))))
    return config


def load(path):
    """The checked contents of a JSON file."""
    try:
        with open(path, encoding="utf-8") as file:
            return check(json.load(file))
    except (OSError, ValueError) as error:
        raise ConfigError("%s: %s" % (path, error)) from None

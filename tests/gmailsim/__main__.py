# __main__ - the command line of the simulator
# SPDX-License-Identifier: Apache-2.0
"""Run as `python3 tests/gmailsim`."""

import argparse
import os
import shutil
import sys
import tempfile

if not __package__:
    # run by its folder's name: make that folder the package it is
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    __package__ = "gmailsim"
    import gmailsim         # noqa: F401, pylint: disable=unused-import

from gmailsim import config, server     # noqa: E402

_EPILOG = """\
Everything else (accounts, limits, clients, service accounts, faults, latency)
is set in the configuration file or over the control endpoint; README.md lists
it. Without --ready the ports and files are printed as JSON once all is up.

example:
  python3 tests/gmailsim --account me@example.com:abcdefghijklmnop
"""


def _parser():
    parser = argparse.ArgumentParser(
        prog="gmailsim", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Gmail's submission service and Google's OAuth2 token "
        "endpoint, simulated on the loopback address.")
    add = parser.add_argument
    add("--config", metavar="FILE", help="configuration, JSON")
    add("--ready", metavar="FILE",
        help="write ports, CA file and pid there, as JSON, once all is up")
    add("--state-dir", metavar="DIR",
        help="certificates, keys and journal; default: a temporary "
        "directory, removed at the end")
    add("--journal-dir", metavar="DIR",
        help="accepted messages; default: STATE-DIR/journal")
    add("--host", metavar="ADDR", help="address to bind (127.0.0.1)")
    for port in config.PORTS:
        add("--%s-port" % port.replace("_", "-"), type=int, metavar="N",
            dest="port_" + port, help="default: any free port")
    add("--profile", choices=("2015", "2020", "2025"),
        help="wording of the replies (2025)")
    add("--account", action="append", default=[], metavar="ADDRESS[:APPPW]",
        help="add an account, with an app password if one is given")
    add("--refresh-token", action="append", default=[],
        metavar="ADDRESS=TOKEN", help="add an account with a refresh token")
    add("--expires-in", type=float, metavar="SECONDS",
        help="life of an access token (3599)")
    add("--window", type=float, metavar="SECONDS",
        help="length of the windows of limits that name none (86400)")
    add("--exit-with-parent", metavar="DIR", nargs="?", const="",
        help="end when the process that started this one ends, and then "
        "remove DIR, which that process cannot do any more")
    return parser


def _configuration(args):
    """The file, and the flags over it."""
    conf = config.load(args.config) if args.config else {}
    for key, value in (("ready", args.ready), ("state_dir", args.state_dir),
                       ("journal_dir", args.journal_dir),
                       ("host", args.host), ("window_s", args.window)):
        if value is not None:
            conf[key] = value
    ports = {port: getattr(args, "port_" + port) for port in config.PORTS}
    conf["ports"] = {**conf.get("ports", {}),
                     **{k: v for k, v in ports.items() if v is not None}}
    changes = {"profile": args.profile, "expires_in": args.expires_in}
    conf["settings"] = {**conf.get("settings", {}),
                        **{k: v for k, v in changes.items()
                           if v is not None}}
    accounts = list(conf.get("accounts", []))
    for item in args.account:
        address, _, password = item.partition(":")
        accounts.append({"address": address,
                         **({"app_password": password} if password else {})})
    for item in args.refresh_token:
        address, _, token = item.partition("=")
        accounts.append({"address": address, "refresh_tokens": [token]})
    conf["accounts"] = accounts
    return config.check(conf)


def main(argv=None):
    """Exit status: 0 ended as told, 2 could not start."""
    args = _parser().parse_args(argv)
    own_directory = None
    parent = os.getppid()
    try:
        conf = _configuration(args)
        if "state_dir" not in conf:
            own_directory = tempfile.mkdtemp(prefix="gmailsim.")
            conf["state_dir"] = own_directory
        return server.run(conf, args.exit_with_parent is not None)
    except config.ConfigError as error:
        sys.stderr.write("gmailsim: %s\n" % error)
        return 2
    finally:
        if own_directory:
            shutil.rmtree(own_directory, ignore_errors=True)
        if args.exit_with_parent and os.getppid() != parent:
            shutil.rmtree(args.exit_with_parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

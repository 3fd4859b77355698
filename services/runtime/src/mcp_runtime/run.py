"""Start the server that ``server.json`` describes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from mcp_runtime.spec import Spec, SpecError, load

SERVER_DIR = os.environ.get("MCP_SERVER_DIR", "/opt/server")
SECRETS_DIR = os.environ.get("MCP_SECRETS_DIR", "/run/secrets")

# Read when fastmcp is imported: no question to PyPI at the start, no banner in the log.
FASTMCP_SETTINGS = {"FASTMCP_CHECK_FOR_UPDATES": "off", "FASTMCP_SHOW_SERVER_BANNER": "false"}


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server's process: every ``NAME_FILE`` that names a secret adds ``NAME``.

    Only files in the secrets' directory count: ``SSL_CERT_FILE`` and its like are no secrets. A variable
    that is already set wins, as in the convention of the official database images. Only the server's
    process gets the result; the runtime's own environment keeps the file names.

    Raises:
        SpecError: the secret is not in this container.
    """
    result = dict(environ)
    for key, path in environ.items():
        name = key.removesuffix("_FILE")
        if name == key or not name or name in environ or os.path.dirname(path) != SECRETS_DIR:
            continue
        try:
            with open(path, encoding="utf-8") as handle:
                result[name] = handle.read().rstrip("\n")
        except OSError as error:
            raise SpecError(f"{key}={path}: {error.strerror}; declare the secret for this server") from error
    return result


def prepare(spec: Spec, env: Mapping[str, str]) -> None:
    """Run the preparing commands in order, except those whose ``creates`` exists already.

    Raises:
        SpecError: a command does not exist or ends with an exit code other than 0.
    """
    for step in spec.prepare:
        if step.creates and os.path.exists(step.creates):
            continue
        try:
            done = subprocess.run(step.run, env=dict(env), check=False)
        except OSError as error:
            raise SpecError(f"prepare step {list(step.run)}: {error.strerror}") from error
        if done.returncode != 0:
            raise SpecError(f"prepare step {list(step.run)} ended with exit code {done.returncode}")


def main() -> int:
    """Become the server (``http``, ``python``) or serve it (``stdio``, ``openapi``); returns an exit code."""
    try:
        spec = load()
        env = server_environment(os.environ)
        prepare(spec, env)
        if spec.transport == "http":
            os.execvpe(spec.command[0], list(spec.command), env)
        if spec.transport == "python":
            serve = os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve.py")
            app_dir = os.path.join(SERVER_DIR, "app")
            env["PYTHONPATH"] = os.pathsep.join(p for p in (app_dir, env.get("PYTHONPATH", "")) if p)
            python = os.path.join(SERVER_DIR, "venv", "bin", "python")
            os.execve(python, [python, serve, spec.module, str(spec.port), spec.path], env)
        os.environ.update(FASTMCP_SETTINGS)
        # uvicorn raises the signal again once it has shut down: a stop that was asked for is no failure.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        if spec.transport == "stdio":
            from mcp_runtime import bridge

            return bridge.serve(spec, env)
        from mcp_runtime import openapi

        return openapi.serve(spec, env)
    except (FileNotFoundError, PermissionError) as error:
        print(f"mcp-runtime: cannot run {error.filename}: {error.strerror} in this image", file=sys.stderr)
    except SpecError as error:
        print(f"mcp-runtime: {error}", file=sys.stderr)
    return 78  # EX_CONFIG of sysexits.h: trying again without a change is pointless

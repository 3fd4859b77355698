"""Start the server that ``server.json`` describes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from mcp_runtime.spec import Spec, SpecError, load

SERVER_PYTHON = "/opt/server/venv/bin/python"
APP_DIR = "/opt/server/app"
SECRETS_DIR = os.environ.get("MCP_SECRETS_DIR", "/run/secrets")


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
    """Run the preparing commands in order; a failing one ends the start with its name and exit code."""
    for step in spec.prepare:
        argv = step.get("run", []) if isinstance(step, dict) else list(step)
        creates = step.get("creates") if isinstance(step, dict) else None
        if creates and os.path.exists(creates):
            continue
        try:
            done = subprocess.run(argv, env=dict(env), check=False)
        except OSError as error:
            raise SpecError(f"prepare step {argv}: {error.strerror}") from error
        if done.returncode != 0:
            raise SpecError(f"prepare step {argv} ended with exit code {done.returncode}")


def main() -> int:
    """Become the server (``http``, ``python``) or serve it (``stdio``, ``openapi``); returns an exit code."""
    try:
        spec = load()
        env = server_environment(os.environ)
        prepare(spec, env)
        if spec.transport == "http":
            os.execvpe(spec.command[0], list(spec.command), env)
        if spec.transport == "python":
            package_dir = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
            serve = os.path.join(package_dir, "mcp_runtime", "serve.py")
            env["PYTHONPATH"] = os.pathsep.join(p for p in (APP_DIR, env.get("PYTHONPATH", "")) if p)
            python = SERVER_PYTHON if os.path.exists(SERVER_PYTHON) else sys.executable
            os.execve(python, [python, serve, spec.module, str(spec.port), spec.path], env)
        if spec.transport == "stdio":
            from mcp_runtime import bridge

            return bridge.serve(spec, env)
        from mcp_runtime import openapi

        return openapi.serve(spec, env)
    except FileNotFoundError as error:
        print(f"mcp-runtime: {error.filename}: no such command in this image", file=sys.stderr)
    except SpecError as error:
        print(f"mcp-runtime: {error}", file=sys.stderr)
    return 78  # EX_CONFIG of sysexits.h: trying again without a change is pointless

"""Look up known vulnerabilities of the packages in .venv: `make audit`.

Exit status: 0 none known, 1 some, 3 the advisory database could not be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = [sys.executable, "-m", "pip_audit", "--local", "--format", "json"]
COMMAND += ["--progress-spinner", "off", "--timeout", "15"]


def report(output: str, complaint: str) -> tuple[int, str]:
    """Return the exit status and what to say.

    Args:
        output: pip-audit's JSON; it holds a reason instead of an answer for each package that the
            database did not know.
        complaint: what it wrote on stderr.
    """
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        packages = []
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        reason = next(iter(complaint.strip().splitlines()[::-1]), "no answer")
        if packages:
            reason = packages[0]["skip_reason"]
        return 3, f"NOT CHECKED: the advisory database cannot be reached from here ({reason:.200})"
    lines = [
        f"{package['name']} {package['version']}: {found['id']}"
        + (f", mended in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "")
        for package in asked
        for found in package["vulns"]
    ]
    if unknown := [package["name"] for package in packages if "vulns" not in package]:
        lines.append(f"not in the database: {', '.join(unknown)}")
    vulnerable = any(package["vulns"] for package in asked)
    lines.append(f"{len(asked)} packages checked, {'vulnerable' if vulnerable else 'none known'}")
    return int(vulnerable), "\n".join(lines)


if __name__ == "__main__":
    audit = subprocess.run(COMMAND, capture_output=True, text=True)
    status, text = report(audit.stdout, audit.stderr)
    print(text)
    sys.exit(status)

"""Packages that the scripts beside this one compare with, at the versions that were measured.

`need("torch", "peft")` in front of a script's other imports sees to it that they are there: where one is missing it makes a virtual
environment (`target/peers`, or the folder that LOAM_PEERS names), installs them with pip, and runs the script again in there. A
package that is there in another version is used, and reported. pip's own settings say where packages come from (on Linux torch may
bring some gigabytes of libraries for GPUs).

    python3 benches/peers/peers.py            # makes the environment with all packages
"""

import importlib.metadata
import os
import subprocess
import sys
import venv
from pathlib import Path

VERSIONS = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "gguf": "0.19.0",
    "llama-cpp-python": "0.3.36",
    "numpy": "2.4.6",
    "peft": "0.21.2",
    "safetensors": "0.8.0",
    "torch": "2.15.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}
FOLDER = Path(os.environ.get("LOAM_PEERS") or Path(__file__).resolve().parents[2] / "target/peers")
# Set for the script in the environment: what is missing there will not come by another try.
INSIDE = "LOAM_PEERS_INSIDE"


def found(package):
    """The version that is installed, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def install(packages):
    """Makes the environment and installs `packages` in it; the path of its interpreter."""
    python = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"making a virtual environment in {FOLDER}", file=sys.stderr)
        venv.create(FOLDER, with_pip=True)
    pinned = [f"{package}=={VERSIONS[package]}" for package in packages]
    # pip looks by itself whether they are there. Its lines are no result of the script.
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned]
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    return python


def need(*packages):
    """Returns if all packages are installed; otherwise runs the script again where they are."""
    versions = {package: found(package) for package in packages}
    missing = [package for package, version in versions.items() if version is None]
    if not missing:
        for package, version in versions.items():
            if version.split("+")[0] != VERSIONS[package]:
                print(f"note: {package} {version} is used; measured was {VERSIONS[package]}", file=sys.stderr)
        return
    if os.environ.get(INSIDE):
        sys.exit(f"{', '.join(missing)} cannot be imported from {FOLDER}: remove it and try again")
    python = install(packages)
    done = subprocess.run([str(python), *sys.argv], env={**os.environ, INSIDE: "1"})
    sys.exit(done.returncode)


if __name__ == "__main__":
    print(install(VERSIONS))

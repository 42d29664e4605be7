"""Import every module of the project in an image, and check what must not be installed there.

``python check_imports.py torch swift`` exits with 1 if one of the named packages is installed, or
if a module fails to import for any other reason than that it needs one of them. Run when an image
is built, so that a package missing from it is found there and not by a pod.
"""

import importlib
import importlib.util
import pkgutil
import sys

PACKAGES = ("omnistage", "components", "pipelines", "recipes")


def modules() -> list[str]:
    """Return the names of the project's modules; programs' ``__main__`` are left out."""
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [m.name for m in pkgutil.walk_packages(path, f"{package}.")]
    return [name for name in names if not name.endswith(".__main__")]


def check(absent: list[str]) -> list[str]:
    """Return what is wrong, a line each.

    Args:
        absent: Packages that this image is made without.
    """
    wrong = [
        f"{name} is installed; this image is made without it"
        for name in absent
        if importlib.util.find_spec(name)
    ]
    for name in modules():
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as e:
            if not e.name or e.name.split(".")[0] not in absent:
                wrong.append(f"{name}: {e}")
        except Exception as e:
            wrong.append(f"{name}: {type(e).__name__}: {e}")
    return wrong


def main() -> int:
    """Check this interpreter's environment and return the exit code."""
    wrong = check(sys.argv[1:])
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"imports: {len(wrong)} wrong" if wrong else f"imports: all of {', '.join(PACKAGES)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

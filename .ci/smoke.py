"""Import every public name of the installed package. Usage: python -I smoke.py core|all (core: no extra installed)."""

import importlib
import importlib.metadata
import pkgutil
import sys
import sysconfig
from pathlib import Path, PurePosixPath

import resilient_cache

PACKAGE = "resilient_cache"
DISTRIBUTION = "resilient-cache"


def public_modules() -> list[str]:
    """Every module of the package whose dotted name has no underscored part."""
    found = (module.name for module in pkgutil.walk_packages(resilient_cache.__path__, f"{PACKAGE}."))
    return [name for name in found if not any(part.startswith("_") for part in name.split("."))]


def public_names(module_name: str) -> int:
    """How many names the module promises; raises when one of them is missing."""
    module = importlib.import_module(module_name)
    names: list[str] = getattr(module, "__all__", [])
    for name in names:
        getattr(module, name)
    return len(names)


def check_place_and_files() -> None:
    """The package under test is the installed one, typed, and nothing but itself was installed with it."""
    site = Path(sysconfig.get_path("purelib")).resolve()
    assert Path(resilient_cache.__file__).resolve().is_relative_to(site), f"not the wheel: {resilient_cache.__file__}"
    files = [PurePosixPath(file) for file in importlib.metadata.files(DISTRIBUTION) or []]
    strangers = [file for file in files if file.parts[0] != PACKAGE and not file.parts[0].endswith(".dist-info")]
    assert not strangers, f"the wheel installs more than the package: {strangers}"
    assert PurePosixPath(PACKAGE, "py.typed") in files, "the wheel has no py.typed"


check_place_and_files()
modules = [PACKAGE, f"{PACKAGE}.testing"] if sys.argv[1] == "core" else [PACKAGE, *public_modules()]
total = sum(public_names(module) for module in modules)
assert public_names(PACKAGE), f"{PACKAGE} has no __all__"
version = importlib.metadata.version(DISTRIBUTION)
print(f"wheel {version} ({sys.argv[1]}): {total} public names in {len(modules)} modules imported")

"""Runs an engine for the process that started it. Started by path with -I and -S: no site packages, no working directory on the
search path, and nothing of the package but its compiled half."""

import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader


def main() -> int:
    native, *arguments = sys.argv[1:]
    loader = ExtensionFileLoader("secateur._native", native)
    spec = spec_from_loader("secateur._native", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return int(module.cli(["secateur", *arguments], sys.executable, ["-I", "-S", __file__, native]))


if __name__ == "__main__":
    sys.exit(main())

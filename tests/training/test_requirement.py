"""torch is optional: what happens without it, and that nothing else needs it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" or name.startswith("torch."):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find_spec(name, package)
from cosim.errors import InputError
import cosim.network.inference, cosim.network.files
try:
    import cosim.training
except InputError as error:
    print(error)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_torch_one_line_says_what_to_install() -> None:
    assert run(CODE) == "training needs PyTorch, which is not installed (pip install 'cosim[train]')"


def test_the_package_itself_imports_no_torch() -> None:
    assert run("import sys, cosim.training; print('torch' in sys.modules)") == "False"

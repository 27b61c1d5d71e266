"""Code of the user's outside ddl: where it is imported from, and whether it has changed since a run began."""

import hashlib
import importlib
import inspect
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ddl.trial_errors import error_line, error_place

PACKAGE = Path(__file__).parent.parent
"""The folder of ddl itself."""
_STDLIB = Path(os.__file__).parent


def import_from(folder: str) -> None:
    """Let this process import modules from `folder`, before any others. Processes that Ray starts later do the same."""
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()


def folder_with(module: str, folders: Iterable[Path]) -> str:
    """The first of `folders` that has the `module`, as an absolute path; "" if none has it: it is installed, or does not exist."""
    top = module.partition(".")[0]
    for folder in folders:
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            return str(folder.resolve())
    return ""


def locate_module(function: Callable[..., Any]) -> tuple[str, str]:
    """(name of the function's module, folder that it is imported from). A script is imported by its file's name by a later resume.

    The module is `__main__` for a function that nothing can import: one of a notebook, of a class or of another function. The folder is
    then that of the modules that it may import. Raises ValueError if the module is being imported, if its file has changed since, and for an
    object that is no function.
    """
    if not inspect.isfunction(function):
        raise ValueError(
            f"ddl.sweep takes a function that is defined with def, not {reprlib.repr(function)}. Write one that calls it: def train(lr): return ..."
        )
    name = function.__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not function.__qualname__.isidentifier():
        return "__main__", _import_folder(name, file)
    if name == "__main__":
        return _script_module(module, file)
    assert module is not None, "the module of a function that was imported"
    if getattr(module.__spec__, "_initializing", False):
        raise ValueError(f"{file}: starts a sweep whenever it is imported. Put that under: if __name__ == '__main__':")
    check_current(module, function)
    return name, _import_folder(name, file)


def _script_module(script: ModuleType | None, file: str | None) -> tuple[str, str]:
    """As `locate_module`, for a function of a script: a file, a module that was started with `python -m`, or a notebook."""
    if not file or not file.endswith(".py"):
        return "__main__", _import_folder("__main__", file)
    if spec := getattr(script, "__spec__", None):
        return spec.name, _import_folder(spec.name, file)
    if "." in Path(file).stem:
        raise ValueError(f"the name of the file {Path(file).name} has a dot, so Python cannot import it to resume. Rename it.")
    return Path(file).stem, _import_folder("__main__", file)


def _import_folder(name: str, file: str | None) -> str:
    """The folder that the module of this name in `file` is imported from; the current one for a notebook, "" for an installed module."""
    if name == "__main__" and not (file and file.endswith(".py")):
        return str(Path.cwd())
    if file is None or "site-packages" in file:
        return ""
    return str(Path(file).resolve().parents[name.count(".") + (Path(file).name == "__init__.py")])


def is_reference(text: str) -> bool:
    """True for `FILE.py:NAME` and `MODULE:NAME`, which name a function or a task of the user's."""
    return re.fullmatch(r"[^:]+:[A-Za-z_]\w*", text) is not None


def locate(reference: str, folders: Sequence[Path]) -> tuple[str, str]:
    """(dotted path, folder that its module is imported from) of a reference for which `is_reference` is true.

    A file is relative to the first of `folders`, a module is in one of them or installed. Raises ValueError if there is no such file.
    """
    place, _, name = reference.rpartition(":")
    if not place.endswith(".py"):
        return f"{place}.{name}", folder_with(place, folders)
    path = folders[0] / place
    if not path.is_file():
        raise ValueError(f"there is no file {place}.")
    if "." in path.stem:
        raise ValueError(f"the name of the file {path.name} has a dot, so Python cannot import it. Rename it.")
    return f"{path.stem}.{name}", str(path.resolve().parent)


def import_module(name: str, folder: str) -> ModuleType:
    """Import a module of the user's. Raises ValueError with the reason if there is none of this `name`, or if it raises."""
    import_from(folder)
    place = folder or "the current folder, next to the sweep's file, or among the installed packages"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(f"there is no module {name} in {place}.") from error
        raise ValueError(f"the module {name} cannot be imported ({error_place(error)}).") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"the module {name} cannot be imported ({error_place(error)}).") from error
    file = getattr(module, "__file__", None)
    if folder and not (file and Path(file).resolve().is_relative_to(folder)):
        raise ValueError(f"the module {name} in {folder} has the name of another module, {file or 'a built-in one'}. Rename it.")
    check_current(module)
    return module


def check_current(module: ModuleType, *functions: Callable[..., Any]) -> None:
    """Raise ValueError if a function of the module, or one of `functions` from it, is older than the module's file.

    Workers import the file, while this process would train, and name as its source, what it imported earlier. A module whose loader
    changes its code, as pytest's does, is not checked.
    """
    path = Path(getattr(module, "__file__", None) or "")
    if type(module.__loader__) is not SourceFileLoader or not path.is_file():
        return
    try:
        compiled = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ValueError(f"the module {module.__name__} cannot be imported again ({error_line(error)}).") from error
    codes = {code for code in compiled.co_consts if isinstance(code, CodeType)}
    names = {code.co_qualname for code in codes}
    own = [each for each in (*vars(module).values(), *functions) if inspect.isfunction(each) and each.__module__ == module.__name__]
    if changed := [each.__name__ for each in own if each.__code__.co_qualname in names and each.__code__ not in codes]:
        raise ValueError(
            f"{path.name} has changed since {changed[-1]} was imported. Import it again: restart the kernel, or call "
            f"importlib.reload({module.__name__}) and repeat: from {module.__name__} import {changed[-1]}"
        )


def hash_sources(module: str, folder: str, function: Callable[..., Any] | None = None) -> dict[str, str]:
    """SHA-256 of the source files of the user's that this process has imported: `module` and all others of its folder.

    By path, relative to `folder` if that is given. A `function` that was typed into a notebook has no file, so its own source is hashed.
    """
    root = Path(folder).resolve() if folder else None
    hashes = {}
    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if not file or not file.endswith(".py"):
            continue
        path = Path(os.path.abspath(file))
        of_folder = root is not None and path.is_relative_to(root) and not _is_library(path)
        if (of_folder or name == module) and path.is_file():
            hashes[str(path.relative_to(root)) if root and of_folder else str(path)] = _hash(path.read_bytes())
    if function is not None and (module == "__main__" or not hashes):
        hashes[f"{module}.{function.__qualname__}"] = hash_function(function)
    return dict(sorted(hashes.items()))


def hash_function(function: Callable[..., Any]) -> str:
    """SHA-256 of a function's source; "" if it is not known."""
    try:
        return _hash(inspect.getsource(function).encode())
    except (OSError, TypeError):
        return ""


def changed_sources(hashes: Mapping[str, str], folder: str, function: Callable[..., Any] | None = None) -> list[str]:
    """The names in `hash_sources` whose source is another one now, or missing."""
    changed = []
    for name, recorded in hashes.items():
        path = Path(folder) / name
        if path.is_file():
            current = _hash(path.read_bytes())
        else:
            current = hash_function(function) if function is not None and not name.endswith(".py") else ""
        if current != recorded:
            changed.append(name)
    return changed


def _is_library(path: Path) -> bool:
    """True for Python's library, for installed packages, and for ddl itself, whose commit is recorded."""
    installed = {"site-packages", "dist-packages"}.intersection(path.parts)
    return bool(installed) or path.is_relative_to(PACKAGE) or path.is_relative_to(_STDLIB)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

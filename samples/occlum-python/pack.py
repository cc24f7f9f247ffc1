"""Puts a program and what it imports from the standard library into an archive that the interpreter looks into by itself.

Usage: pack.py PROGRAM ARCHIVE. The whole library has 30 MB and the image is measured and loaded whole; this has 1 MB.
Modules that are shared libraries are left out: the standard library does without most of them.
"""

import modulefinder
import pathlib
import sys
import sysconfig
import zipfile

program, archive = sys.argv[1:]
finder = modulefinder.ModuleFinder()
# Imported by the interpreter itself at its start.
for name in ("encodings.utf_8", "encodings.latin_1", "encodings.ascii", "site", "runpy", "zipimport"):
    finder.import_hook(name)
finder.run_script(program)
library = pathlib.Path(sysconfig.get_path("stdlib"))
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
    for module in sorted(finder.modules.values(), key=lambda module: module.__name__):
        if module.__file__ and module.__file__.endswith(".py") and library in pathlib.Path(module.__file__).parents:
            name = str(pathlib.Path(module.__file__).relative_to(library))
            # With a fixed time the same modules give the same bytes, and so the same measurement.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, pathlib.Path(module.__file__).read_bytes())

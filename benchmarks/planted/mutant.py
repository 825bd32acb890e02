"""A wrong line, and how it is put into a copy of the package."""

import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "src/penchant"


@dataclass(frozen=True)
class Mutant:
    """One wrong line."""

    name: str
    file: str
    old: str
    new: str

    def mutated(self) -> str:
        """The file's wrong source; refuses a mutant whose place is gone or not unique."""
        source = (PACKAGE / self.file).read_text()
        if source.count(self.old) != 1:
            raise SystemExit(f"mutant '{self.name}': {source.count(self.old)} places in {self.file} read {self.old!r}.")
        return source.replace(self.old, self.new)

    def plant(self, package: Path) -> None:
        """Write the wrong source into a copy of the package."""
        (package / self.file).write_text(self.mutated())

    def restore(self, package: Path) -> None:
        """Put the right file back."""
        shutil.copyfile(PACKAGE / self.file, package / self.file)

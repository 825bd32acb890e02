"""Wrong losses, by what they are about; a new one goes into the file of its kind."""

from planted import denoising, online, paths, preferences

MUTANTS = (*preferences.MUTANTS, *denoising.MUTANTS, *online.MUTANTS, *paths.MUTANTS)

__all__ = ["MUTANTS"]

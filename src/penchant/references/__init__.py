"""The frozen reference: what the policy was before training, at the lowest price that is exact."""

from __future__ import annotations

from penchant.references.adapter_off import AdapterOff, adapters_off
from penchant.references.base import ReferenceModel
from penchant.references.cached import Cached
from penchant.references.frozen import Frozen
from penchant.references.spec import Reference

__all__ = ["AdapterOff", "Cached", "Frozen", "Reference", "ReferenceModel", "adapters_off"]

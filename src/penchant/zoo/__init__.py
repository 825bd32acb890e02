"""The small real models and data that penchant ships: how they were made. `penchant.assets` finds them."""

"""Reward models: networks that score samples in any number of named dimensions, their losses and accuracies.

The networks are here, below the judges that load them; how they are trained is in `reward_training`.
"""

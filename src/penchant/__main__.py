"""`python -m penchant`, for launchers such as `accelerate launch -m penchant`."""

from penchant.cli import main

raise SystemExit(main())

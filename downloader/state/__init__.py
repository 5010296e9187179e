"""Where jobs are remembered: the only place that knows Redis."""

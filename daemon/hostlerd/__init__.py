"""The daemon. Its folders are the stages of the pipeline: sources, host, observe, decide, act, report, api."""

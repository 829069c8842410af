"""Silences notices of libraries."""

import logging
import os
import sys
import warnings


def quieten() -> None:
    """Silences notices that users cannot act on; our own warnings are shown as one line each.

    To be called before torch is loaded, which reads its settings then.
    """
    # threads that wait by spinning make a run many times slower beside any other program
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # connections that break say so in thirty lines
    import lightning.pytorch  # noqa: F401  it sets its log level when imported
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # it sets its log level when imported, which is later
    for name in ("lightning.pytorch", "lightning.fabric", "diffusers", "transformers", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", module="drift_pl")
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)

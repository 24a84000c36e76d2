"""Whether a system's training saw the videos that it is evaluated on, as its entry in the registry says."""


def seen_in_training(system: str, task: str) -> str:
    """Why videos of a task's benchmark may have been in a system's training, with source; "" where no entry says so."""
    from corrkit.checkpoints.registry import SYSTEMS

    return SYSTEMS[system].trained_on.get(task, "") if system in SYSTEMS else ""

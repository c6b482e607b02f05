"""One file per task. Installed as `seqbench.tasks`; every module here is found and imported by the task registry."""

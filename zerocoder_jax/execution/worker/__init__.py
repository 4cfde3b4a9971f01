"""The worker program: a sandbox and the process that judges what comes out of it.

Standard library only, and no import from the rest of the project: the pool starts it by exec, as
``python -S -s -P -c START DIRECTORY``, in a few milliseconds. Three kinds of process take part:

==============  ===================================================  ===========================
process         knows                                                runs
==============  ===================================================  ===========================
judge           tests with their expected values, verdicts           nothing
runner          time limits, each once the run is forked             nothing; forks the runs
run             its solution and the arguments of its test's calls   the solution
==============  ===================================================  ===========================

The runner is process 1 of its own namespaces; ``isolation.py`` says what surrounds it.
"""

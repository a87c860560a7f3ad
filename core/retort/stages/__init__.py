"""Define the stages of a run, one file each.

A stage is a module that says ``after``, the name of the stage before it, and three verbs: ``applies(spec)``,
``cost(spec)`` in the unit of ``retort.pipeline.progress``, and ``run(context)``, whose answer is kept as JSON. One
that is not for distillations says for which other ``task``.
"""

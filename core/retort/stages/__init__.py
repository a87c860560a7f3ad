"""What a run does, in order, one file per stage: writing the file adds the stage.

A stage is a module that says ``after``, the name of the stage before it, and three verbs: ``applies(spec)``,
``cost(spec)`` in the unit of ``retort.pipeline.progress``, and ``run(context)``, whose answer is kept as JSON. One
that is not for distillations says for which other ``task``.
"""

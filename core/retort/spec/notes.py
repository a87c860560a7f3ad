"""List the unit of each spec field, and when to change it."""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """What the reference says of a field beside its schema."""

    unit: str
    when: str


_JOB = """
task | | To ask for advice in place of a training.
name | | Always: it is what lists and reports show.
data | | Always.
teacher | | Always.
student | | Nearly always: the smallest network that is fast enough where it will run.
pseudo_labels | | There are many more images than labels.
distillation | | To compare recipes, or after the ECG has named a term that is too weak or too strong.
training | | Nearly always: the defaults are for thousands of images on a GPU.
control | | Off once the gain is known and half of the GPU time matters more.
arms | | A gain is to be explained, in a paper or before a change of the recipe; each costs one more training.
exports | | Always when the student goes to a device.
tracking | | Curves are to be kept beside those of other projects.
resources | | A training takes more than one GPU, or must end in time.
data.path | | Your own images.
data.dataset | | A first try, or a comparison on public images.
data.max_missing_labels | share of images | 1 where most images are background without a label file; less to be strict.
data.unlabelled | | There are images of the same scenes without labels, and labelling them is too dear.
data.unlabelled.path | | Always in this section.
data.unlabelled.ratio | images per labelled image | Higher when there are many more of them, and time for larger steps.
teacher.weights | | A teacher for these classes exists already.
teacher.train | | There is none: fine-tuning on your images gives the best teacher there is.
teacher.imgsz | pixels | Small objects: a teacher that sees more may teach more.
teacher.weight | | Several teachers, of which one knows better.
teacher.adapter | | The weights are no YOLO, and their file does not say all.
teacher.ensemble | | Teachers that are good at different classes.
teacher.ensemble.weights | | Always in this section.
teacher.ensemble.weight | | One of the teachers knows better.
teacher.ensemble.imgsz | pixels | This teacher was trained at another size.
teacher.ensemble.adapter | | The weights are no YOLO, and their file does not say all.
teacher.cache | | The teacher is slow, or many trainings learn from it: seeds, arms, a sweep.
teacher.views | | Small or crowded objects, or a teacher that is unsure; measure it.
teacher.train.model | | One or two sizes above the student; the largest is seldom the best.
teacher.train.weights | | Null without a network, or to leave out what published weights know.
teacher.train.epochs | epochs | Fewer where its curve is flat before the end.
student.model | | The device and its frame rate decide; left out to build what a file holds.
student.weights | | A file of your own; null for random ones; a registered model to go on from.
pseudo_labels.path | | Always in this section.
pseudo_labels.recipe | | `few_labels` where a tenth of the images or less has labels.
pseudo_labels.thresholds | | `class_share` where teachers are less sure of some classes than of others.
pseudo_labels.labelled_share | share of a batch | Higher when the labels are few and good.
pseudo_labels.burn_in | share of the epochs | Longer when the student starts from random weights.
pseudo_labels.ramp | share of the epochs | Longer when the teacher's labels are poor.
pseudo_labels.confidence | score, 0 to 1 | Lower when there are few labels, higher when people reject many.
pseudo_labels.per_class | score, 0 to 1 | A rare class never reaches the common threshold.
pseudo_labels.ignore_from | score, 0 to 1 | Null when no box is doubtful, which is rare.
pseudo_labels.review | | On before labels are trusted for the first time.
pseudo_labels.sample | images | Larger for a narrower interval of the precision.
pseudo_labels.copies | | `similar` for videos, whose frames are nearly alike; `identical` where copies are wanted.
pseudo_labels.check_labels | | Your own labels are of unknown quality.
distillation.recipe | | `article` and `native` are there to compare with.
distillation.losses | | The ECG names a term, or for research.
distillation.balance | | `none` to give weights as papers do.
distillation.assignment | | `student` where the teacher is barely better than the student.
distillation.agreement | | `gate` or `project` where `health/grad_agreement_` of a term stays below 0.
distillation.schedule | | The teacher helps early and holds back late.
distillation.weak_teacher | | `refuse` in pipelines that nobody watches.
distillation.pilot | | True where no harm counts for more than a gain that shows late.
distillation.schedule.warmup_epochs | epochs | Longer where the first epochs explode.
distillation.schedule.decay | | The student overtakes its teacher.
distillation.schedule.floor | share of the weight | With a decay, to keep some of the teaching to the end.
distillation.schedule.stop_with_mosaic | | The last epochs are to be the labels' alone.
training.epochs | epochs | Short data sets need more, large ones fewer; look at where the control's best lies.
training.patience | epochs | `epochs` is a generous guess, and most of it would be wasted; 20 to 100.
training.time | hours | A training may take an evening, whatever it has reached then.
training.imgsz | pixels | The size that the device will run; small objects need large images.
training.multi_scale | part of imgsz | Objects come in sizes that training did not show; it makes trainings slower.
training.batch | images | As large as the GPU holds, which `auto` finds; smaller after `out_of_memory`.
training.nominal_batch | images | Equal to `batch` where an epoch has few batches.
training.fraction | part | A first try on a large data set.
training.optimizer | | Named, to choose the learning rate yourself.
training.lr | | With a named optimizer; lower after `diverged` or `loss_exploding`.
training.lrf | part of lr | Higher when the curve still climbs at the end.
training.cos_lr | | Long trainings, to try.
training.warmup_epochs | epochs | 0 or 1 in short trainings from pretrained weights.
training.momentum | | With a named optimizer, to repeat a setting.
training.weight_decay | | Higher for small data sets that are learned by heart.
training.head_lr_multiplier | | To repeat a paper's setting.
training.freeze | layers | Few images and pretrained weights: 10 is the backbone of a yolov8.
training.box | | Boxes are loose while classes are right.
training.cls_gain | | Classes are confused while boxes are right.
training.dfl | | To repeat a setting.
training.cls_pw | 0 to 1 | Some classes are rare; 0.25 to 0.5 is a careful start.
training.single_cls | | Where objects are is all that counts, or a second network tells what they are.
training.fliplr | probability | 0 where left and right differ: digits, letters, arrows, hands.
training.flipud | probability | Images have no up and down: from above, from a microscope.
training.hsv_h | part of the circle | 0 where colour is what tells classes apart.
training.hsv_s | part | Lower where colours are as the camera always sees them.
training.hsv_v | part | Higher where it gets dark.
training.mosaic | probability | Lower where a whole scene is what matters.
training.scale | part | Lower where objects always have one size.
training.translate | part | Lower where objects always stand in one place.
training.degrees | degrees | The camera is not level, or looks down.
training.shear | degrees | Seldom.
training.perspective | part | The camera looks from many sides; 0.0005 is a start.
training.mixup | probability | Long trainings of large networks.
training.cutmix | probability | Objects are often half hidden.
training.amp | | Off after `diverged` on a GPU.
training.deterministic | | Off where speed on a GPU counts for more than equal bits.
training.compile | | Long trainings on a GPU.
training.ema | | Off only to compare with code that has none.
training.grad_clip | norm | Lower where single steps throw the curve off.
training.close_mosaic | epochs | Fewer in short trainings.
training.seed | | To repeat a training, or to see how much of a result is luck.
training.seeds | trainings | 3 or more before you believe a difference of a point.
training.checkpoint_every | epochs | Shorter to look at students while the training goes on.
tracking.tensorboard | | Off to save a little time at the end.
tracking.wandb | | Your group looks at Weights & Biases.
tracking.mlflow | | Your group looks at MLflow.
tracking.wandb.project | | Always in this section.
tracking.wandb.mode | | `online` where the worker has network and key.
tracking.wandb.entity | | The project is a team's.
tracking.wandb.artifacts | | Weights are to be kept there too.
tracking.mlflow.experiment | | Always in this section.
tracking.mlflow.artifacts | | Weights are to be kept there too.
resources.gpus | GPUs | Long trainings with large batches.
resources.require_gpu | | A CPU would take too long to be of use.
resources.max_runtime_s | seconds | A job must not cost more than this.
resources.max_queue_s | seconds | A late answer is of no use.
resources.halve_batch | | Nobody is there to lower `training.batch`.
loss.weight | | The ECG says that the term is too weak or drowns the task.
loss.levels | | Objects of one size only, or a level whose cosine stays flat.
loss.class_balance | 0 to 1 | Down to 0 where common classes are all that counts.
loss.temperature | | Down to 1 where background dominates.
loss.beta | | 0 to weigh all anchors alike.
loss.box_weight | | Boxes are loose while classes are right.
loss.otherwise | | `giou` where heads differ.
loss.normalize | | Off to repeat a paper that does without.
loss.mask_ratio | share | As the paper of a related network has it.
export.max_map_drop | mAP50-95, 0 to 1 | Tighter for a product, null to see any form.
export.imgsz | pixels | The camera's pictures are not square, or the device needs another size.
export.batch | images | The device always has so many images at once.
export.nms | | The device's program shall get boxes, without an NMS of its own.
export.conf | score, 0 to 1 | The program keeps only surer boxes, or weighs scores itself.
export.iou | share | Objects stand close, or one is found twice.
export.max_det | boxes | Pictures show more objects, or memory is short.
export.calibration_images | images | More when INT8 varies from run to run.
export.calibration_path | | The device sees other scenes than the training images show.
export.aware_epochs | epochs | INT8 misses its budget in spite of the fallback.
export.aware_teacher | | `none` where labels alone shall teach; `teacher` to try the job's.
export.fallback | | Off where the chip runs nothing but INT8.
export.precision | | What the device computes fastest.
export.opset | | The device's runtime is old.
export.dynamic | | Batches or sizes vary where it runs.
export.simplify | | Off where a compiler stumbles over the graph.
export.workspace_gib | GiB | The GPU that builds is shared or small.
"""
_ADAPTER = """
names | | The file does not name its classes, or names them otherwise than your data.
boxes | | The graph has several outputs with four columns.
scores | | The graph has several outputs that may hold scores.
labels | | The graph gives the number of each box's class in an output that is not found.
box_format | | Boxes are told otherwise than is usual for the form of the outputs.
box_units | | Boxes are told otherwise than is usual for the form of the outputs.
activation | | The scores are logits where probabilities are expected, or the other way round.
background | | Scores or labels count a class that is no object.
resize | | It was trained on letterboxed images and its input is no square.
colours | | It was trained on images as OpenCV reads them.
largest | | It takes pixels from 0 to 255.
mean | | It takes normalised images, such as by ImageNet's mean 0.485, 0.456, 0.406.
std | | It takes normalised images, such as by ImageNet's deviation 0.229, 0.224, 0.225.
"""
_ADVICE = """
task | | Always: it tells this document from a job.
name | | Several requests run side by side.
data | | Always.
student | | The student is another than yolov8n.
candidates | | Always.
adapters | | A candidate is no YOLO, and its file does not say by itself how it is read.
imgsz | pixels | The size that the job will have.
batch | images | The batch that the job will have.
student_epochs | epochs | What a teacher can be worth is to be known before the job's hours: those of the job, or fewer.
resources | | The answer must come in time.
data.path | | Your own images.
data.dataset | | A known data set.
data.max_missing_labels | share of images | 1 where most images are background without a label file; less to be strict.
student.model | | As in the job.
student.weights | | As in the job.
resources.gpus | GPUs | Never: there is one value.
resources.max_runtime_s | seconds | It must not cost more than this.
resources.max_queue_s | seconds | A late answer is of no use.
"""
_EVALUATE = """
task | | Always: it tells this document from a job.
name | | Several evaluations are kept.
data | | Always.
networks | | Always; the first is what the others are compared with.
adapters | | A network is no YOLO, and its file does not say by itself how it is read.
imgsz | pixels | All are to be measured at one size.
exports | | An export was forgotten, or another device has come.
seed | | To see whether the interval depends on it.
resources | | The answer must come in time.
data.path | | Your own images.
data.dataset | | A known data set.
data.max_missing_labels | share of images | 1 where most images are background without a label file; less to be strict.
resources.gpus | GPUs | Never: there is one value.
resources.max_runtime_s | seconds | It must not cost more than this.
resources.max_queue_s | seconds | A late answer is of no use.
"""
_SWEEP = """
name | | Always.
base | | Always.
parameters | | Always.
search | | Always.
objective | | What counts is not the student's mAP50-95.
concurrency | jobs | As many as there are GPUs to spare.
failures | trials | Higher where some combinations are expected to fail.
parameters.values | | Named choices, whole lists, or a few numbers.
parameters.also | | Two fields only make sense together.
parameters.min | the field's | A range in place of values.
parameters.max | the field's | A range in place of values.
parameters.type | | The range is written in another kind of number.
parameters.log | | Learning rates, and whatever spans orders of magnitude.
parameters.step | the field's | Only rounded values make sense; a grid over a range needs it.
search.strategy | | `grid` for few combinations, `random` to know the whole space.
search.trials | trials | As many as the time allows; 20 or more for `tpe`.
search.seed | | To repeat a search, or to make another.
search.startup | trials | Lower where there are few trials.
search.pruning | | Curves tell early who loses.
objective.metric | | Another figure counts, such as `val/recall`.
objective.role | | It is the control or the teacher that is tuned.
objective.goal | | The metric is a loss.
"""


def _read(table: str) -> dict[str, Note]:
    """Return the notes of a table by the path of their field."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return {path: Note(unit, when) for path, unit, when in rows}


def _adapter(*paths: str) -> dict[str, Note]:
    """Return the notes of an adapter at each of *paths*."""
    return {f"{path}.{name}": note for path in paths for name, note in _read(_ADAPTER).items()}


NOTES = {
    "distill": _read(_JOB) | _adapter("teacher.adapter", "teacher.ensemble.adapter"),
    "advise": _read(_ADVICE) | _adapter("adapters"),
    "evaluate": _read(_EVALUATE) | _adapter("adapters"),
    "sweep": _read(_SWEEP),
}
"""By document, and by the path of the field in it; ``loss`` and ``export`` stand for any kind and format."""

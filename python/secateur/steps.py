"""A function for each step, with its options. Written by `generate.py` from the schemas of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._outcome import given_weights, several, step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from typing_extensions import Unpack

    from ._calls import Stats
    from ._model import ModelLike
    from ._outcome import Outcome, PathLike, RunOptions

__all__ = [
    "awq",
    "bake",
    "bind",
    "bind_defaults",
    "chain",
    "clean_names",
    "cluster",
    "compress",
    "convert_float",
    "convert_opset",
    "correct_bias",
    "deduplicate_initializers",
    "deepen",
    "drop_outputs",
    "eliminate_common_subexpressions",
    "eliminate_dead_code",
    "equalize",
    "extract",
    "factorize",
    "finetune",
    "fold_constants",
    "inline_functions",
    "merge_lora",
    "prune_blocks",
    "prune_channels",
    "prune_weights",
    "quantize",
    "quantize_dynamic",
    "quantize_weights",
    "rename",
    "search_precision",
    "simplify",
    "smooth_quant",
    "transfer_features",
    "transfer_merge",
    "transfer_parameters",
    "transfer_structure",
    "widen",
]


def awq(
    model: ModelLike,
    *,
    type: Literal["uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2", "float8e4m3fn", "float8e4m3fnuz",
        "float8e5m2", "float8e5m2fnuz"] | None = None,
    block: int | None = None,
    symmetric: bool | None = None,
    step_data: str | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Scales the weights that multiply large activations up before they are rounded, so that they lose less (activation-aware
    weight quantization, Lin et al. 2023).

    Between a normalization and the matrix products that read it, channel `j` is divided by `rms(x_j)^alpha`, and the weights that
    multiply it take the factor; `alpha` is the one with which the rounded weights change the products' outputs least on the
    calibration data, from second moments. The model computes the same up to rounding. Run it before `quantize_weights` with the
    same type and block.

    Args:
        model: the model.
        type: Type of the codes that the weights will have. Default: `'int4'`.
        block: Elements along the summed dimension that will share a scale; 0: a whole output channel. Default: `32`.
        symmetric: Zero is in the middle of the codes; else each scale has a zero point. Default: `True`.
        step_data: The role of the data that second moments come from. Default: `'calibration'`.
        prepare: Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("awq", model, {"type": type, "block": block, "symmetric": symmetric, "step_data": step_data, "prepare": prepare},
        run)


def bake(
    model: ModelLike,
    *,
    preprocess: Literal["torchvision", "efficientnet-lite", "mnist", "yolo", "yolox", "nanodet", "ssd", "ultraface", "yunet",
        "pp-ocr"] | Mapping[str, Any] | None = None,
    input: str | None = None,
    boxes: str | Mapping[str, Any] | None = None,
    classes: Literal["softmax", "argmax"] | None = None,
    scores: str | None = None,
    axis: int | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Puts preprocessing and post-processing into the model, as data descriptions declare them.

    With `preprocess` the model takes images as they are decoded: `uint8 [N, height, width, 3]`, red, green and blue, of any
    height and width; all images of a run have the same. They are resized, letterboxed or cropped, their channels ordered and
    their pixels scaled by operators that compute what data sets do to images: in doubles for `bilinear`, so that the network gets
    the same bits, and in floats for `antialias`, where a pixel may differ by rounding. The input is named `image` and denoted
    `IMAGE`, and data descriptions leave their own preprocessing out for such a model.

    With `boxes` the outputs of a detector become `boxes` (`float [n, 4]`: left, top, right and bottom in pixels of the image as
    it came in), `scores` (`float [n]`) and `classes` (`int64 [n]`), the best first, after suppression by class. Where the
    declaration or the model says categories, the last one is called `categories`. With `classes` scores become shares or the
    number of the best class.

    The opset is raised to 13 where it is older. Where the pipeline has images, the result is run on them beside the model as it
    was, with the preprocessing that the data declare: the largest difference of pixels and of outputs is reported, and pixels
    that differ by more than a step of 255 refuse the result.

    Args:
        model: the model.
        preprocess: How images become the input: a preset or fields, as in data descriptions.
        input: The input that takes images, where the model has several.
        boxes: How boxes are read from the outputs: a layout or fields, as in data descriptions.
        classes: What becomes of scores of classes: `softmax` or `argmax`.
        scores: The output with the scores, for `classes`; the first by default.
        axis: The axis of the classes, for `classes`; 1 by default.
        run: see :class:`RunOptions`.
    """
    return step("bake", model, {"preprocess": preprocess, "input": input, "boxes": boxes, "classes": classes, "scores": scores,
        "axis": axis}, run)


def bind(
    model: ModelLike,
    step_sizes: Mapping[str, int | str] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Gives sizes to symbolic and unknown dimensions of the graph inputs, and makes a fixed batch of 1 free or larger.

    A symbol gets its size wherever it stands: in graph inputs, graph outputs and bodies. A dimension without a name is given as
    `input[axis]`. All shapes are inferred anew; a size that contradicts the model is an error, and so is a name that does not
    exist.

    A dimension that is 1 in the model is taken for its batch when it is given another size, or a name to make it free: Reshape
    and whatever else has the 1 written into it is rewritten, and samples run together have to give what each gives alone. What
    does not carry the batch on, or mixes its samples, is refused by name.

    Args:
        model: the model.
        step_sizes: Size by symbol (`batch: 1`), by input and axis (`"x[0]": 1`) or of all axes of an input (`x: "1,3,224,224"`);
            for a fixed dimension of 1 also a name (`"x[0]": N`).
        run: see :class:`RunOptions`.
    """
    return step("bind", model, {"step_sizes": step_sizes}, run)


def bind_defaults(
    model: ModelLike,
    *,
    inputs: Sequence[str] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Makes constants of graph inputs that have a default, so that no caller can give them another value.

    From IR version 4 on, an initializer that is also a graph input is a default: a caller may replace it, so no rewrite may count
    on it, and weights of this kind are neither folded nor quantized nor pruned. Old exporters list all weights this way without
    meaning it. The inputs are gone afterwards; whoever gives no value for them sees no difference.

    Args:
        model: the model.
        inputs: The inputs, by name; all that have a default if none is named.
        run: see :class:`RunOptions`.
    """
    return step("bind-defaults", model, {"inputs": inputs}, run)


def chain(
    model: ModelLike,
    others: ModelLike | Sequence[ModelLike],
    *,
    map: Sequence[str] | None = None,
    before: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Puts other models behind this one: preprocessing before a network, a head behind a backbone.

    Each model reads what the one before gives: the outputs of its inputs' names, the only output, or what `map` says. The result
    has the inputs of the first model and those that nothing gives, and the outputs of the last model; outputs of the others go,
    but for those that `keep` names. Opsets are brought to the newest, sizes and symbols to what both sides need, and shapes or
    types that contradict each other are an error that names both. Running the result and running the models one after the other
    gives the same bits in the same engine.

    Args:
        model: the model.
        others: The other models, in the order in which data passes them.
        map: Pairs OUTPUT=INPUT: a value of the models before and the input of the next one that reads it.
        before: The other models come before this one and not behind it. Default: `False`.
        run: see :class:`RunOptions`.
    """
    return step("chain", model, {"map": map, "before": before}, run, {"with": several(others)})


def clean_names(
    model: ModelLike,
    *,
    parts: Sequence[Literal["nodes", "values", "initializers"]] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Gives nodes, values and initializers short names that are valid identifiers.

    A node is named by its operator and a number (`Conv_0`), a value by its node (`Conv_0_output`), a constant by the first node
    that reads it and what it is there (`Conv_0_weight`, `Conv_0_bias`). Names consist of letters, digits and `_`, are distinct,
    and follow from the graph alone: the same graph gets the same names, and a second run changes nothing. Bodies are named with
    the graph around them, functions each by itself. Inputs and outputs of the graph and of functions keep their names, and so
    does what `keep` matches.

    Args:
        model: the model.
        parts: What gets other names; everything by default.
        run: see :class:`RunOptions`.
    """
    return step("clean-names", model, {"parts": parts}, run)


def cluster(
    model: ModelLike,
    *,
    bits: float | None = None,
    dealt: bool | None = None,
    weighting: Literal["none", "gram", "gradients"] | None = None,
    initialisation: Literal["exact", "linear", "density", "kmeans++"] | None = None,
    form: Literal["lookup", "float"] | None = None,
    codes: Literal["auto", "uint8", "uint4"] | None = None,
    keep_zeros: bool | None = None,
    layers: Sequence[Mapping[str, Any]] | None = None,
    step_data: str | None = None,
    stats: PathLike | Stats | None = None,
    labelled: str | None = None,
    gradient_stats: PathLike | Stats | None = None,
    loss: Literal["cross-entropy", "mean-squared-error", "binary-cross-entropy"] | None = None,
    loss_output: str | None = None,
    operators: Sequence[str] | None = None,
    minimum_elements: int | None = None,
    exclude: Sequence[str] | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Lets the weights of each layer share few values: a code for each weight, and a codebook of the values (Han et al. 2015).

    The values are found by weighted k-means, which in one dimension has an exact solution. Weights that are zero stay zero:
    pruning comes first. `finetune` trains the values further, with the codes as they are. The graph looks codes up with Cast and
    Gather, which every runtime knows; `simplify` does not fold that. `pack` afterwards stores codes in as few bits as they need.
    A weight that would not become smaller is left alone.

    Args:
        model: the model.
        bits: Bits of a code, 1 to 8: each weight tensor has at most 2^bits values. A fraction is a mean over all weights, and
            dealt. Default: `4.0`.
        dealt: Deal bits to tensors where they lower the error most, with `bits` as the mean over all weights; a fraction always
            is. Networks with small layers, such as depthwise convolutions, lose far less so. Default: `False`.
        weighting: What the error of each weight counts for. Default: `'none'`.
        initialisation: Where k-means starts. What `kmeans++` draws depends on the run's seed. Default: `'exact'`.
        form: How the weights are written. Default: `'lookup'`.
        codes: The type of codes, with `form: lookup`. Default: `'auto'`.
        keep_zeros: Zero is a value of its own in a tensor that has zeros, for them alone. Default: `True`.
        layers: Other bits for single layers: the first entry whose pattern matches the node's name, an output of it or its weight
            decides. `{match: REGEX, bits: 1 to 8}`; without `bits` the weight stays as it is. They take no part in a mean.
        step_data: The role of the data that `weighting: gram` runs the model over. Default: `'calibration'`.
        stats: A statistics file (`secateur stats MODEL --for gram`) to take the second moments of layers from, instead of data.
        labelled: The role of the labelled data that `weighting: gradients` takes gradients on. Default: `'training'`.
        gradient_stats: Gradient statistics of this very model, as `secateur stats --for gradients` writes them, instead of
            labelled data.
        loss: The loss that gradients are of. Default: `'cross-entropy'`.
        loss_output: The output that the loss sits on; the first one by default.
        operators: Operators whose weights share values: MatMul, Gemm, Conv, ConvTranspose, LSTM, GRU, RNN, Einsum and the tables
            that Gather takes rows of. Default: `['MatMul', 'Gemm', 'Conv', 'ConvTranspose', 'LSTM', 'GRU', 'RNN', 'Gather',
            'Einsum']`.
        minimum_elements: Weights with fewer elements stay as they are. Default: `256`.
        exclude: Nodes whose weights stay as they are: regular expressions on node names and output names.
        prepare: Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("cluster", model, {"bits": bits, "dealt": dealt, "weighting": weighting, "initialisation": initialisation,
        "form": form, "codes": codes, "keep_zeros": keep_zeros, "layers": layers, "step_data": step_data, "labelled": labelled,
        "loss": loss, "loss_output": loss_output, "operators": operators, "minimum_elements": minimum_elements,
        "exclude": exclude, "prepare": prepare}, run, {"stats": stats, "gradient-stats": gradient_stats})


def compress(
    model: ModelLike,
    *,
    bits: float | None = None,
    ratio: float | None = None,
    max_bytes: int | None = None,
    importance: Literal["gradients", "outputs", "weights"] | None = None,
    step_data: str | None = None,
    correct_bias: bool | None = None,
    operators: Sequence[str] | None = None,
    minimum_elements: int | None = None,
    exclude: Sequence[str] | None = None,
    prepare: bool | None = None,
    until: Sequence[str | Mapping[str, Any]] | str | Mapping[str, Mapping[str, Any]] | None = None,
    write_pipeline: PathLike | None = None,
    stats: PathLike | Stats | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Weights as integers that take few bits once they are packed, chosen by what the model's outputs lose and what each code
    costs.

    Weights become 8-bit codes with a scale for each output channel, as with `quantize_weights`, so that every runtime loads the
    model; but steps and codes are chosen by rate and distortion: a code is what is least in error times importance plus the bits
    that the coder of `pack` will spend on it where it stands. What one weight loses is made up for by those behind it that the
    same inputs reach (as in GPTQ). Bits are dealt out over the whole model by one price: layers and channels on which the outputs
    depend little get few. Activations and arithmetic stay float; weights that are zero stay zero. Run `pack` on the result: it
    has the stated bits a weight there, and 8 in the model file. Biases keep as many bits of their fractions as a weight has, and
    three, from 6 to 12.

    Args:
        model: the model.
        bits: Bits a weight once packed, in the mean over all weights that are coded. 4 without any target.
        ratio: How many times smaller than the given file the packed model is to be.
        max_bytes: Bytes that the packed model may have.
        importance: What says how much a layer matters. Default: `'gradients'`.
        step_data: The role of the data, without labels. Where there are none the weights alone say what matters, and the run
            warns of it. Default: `'calibration'`.
        correct_bias: Move the biases of Conv and Gemm by the mean error that their weights' codes cause, where data say what that
            is. Default: `True`.
        operators: Operators whose weights are coded. Default: `['MatMul', 'Gemm', 'Conv', 'ConvTranspose', 'LSTM', 'GRU', 'RNN',
            'Gather', 'Einsum']`.
        minimum_elements: Weights with fewer elements stay float. Default: `128`.
        exclude: Nodes whose weights stay float: regular expressions on node names and output names.
        prepare: Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen and normalizations are
            in weights. Default: `True`.
        until: Bounds that the result has to keep, such as `accuracy.drop<=0.01`: the fewest bits a weight at which they hold on
            evaluation data that the search did not see.
        write_pipeline: With `until`, the file that the pipeline with the bits found is written to.
        stats: A file of `secateur stats --for gram` in the place of data for what the layers read.
        run: see :class:`RunOptions`.
    """
    return step("compress", model, {"bits": bits, "ratio": ratio, "max_bytes": max_bytes, "importance": importance,
        "step_data": step_data, "correct_bias": correct_bias, "operators": operators, "minimum_elements": minimum_elements,
        "exclude": exclude, "prepare": prepare, "until": until, "write_pipeline": write_pipeline}, run, {"stats": stats})


def convert_float(
    model: ModelLike,
    *,
    to: Literal["float16", "bfloat16"] | None = None,
    convert_io: bool | None = None,
    keep_operators: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    range_data: str | None = None,
    check_ranges: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Converts float tensors and the operators between them to a 16-bit float type.

    An operator is converted when its schema allows the type, in the bodies of If, Loop and Scan too; calls of functions are
    inlined first. It stays float when it computes with a number that the type does not hold: an epsilon below the range of
    float16 with the root, logarithm or division that it protects and the squares that it is added to, a mask beyond the range
    with its Softmax, sums of integers. Further when `range_data` shows values beyond the range of float16 or random inputs show
    values near its end, when it stands between quantized values, when its weights are smaller than the Casts around it, and when
    `keep_operators` or `exclude` say so; Casts stand where the types meet. Inputs and outputs of bodies stay float, and those of
    the model unless `convert_io` says otherwise; without it, a model in which no constant would become smaller stays as it is.
    Ranges are not checked in bodies.

    Args:
        model: the model.
        to: The type to convert to. Default: `'float16'`.
        convert_io: Give graph inputs and outputs the new type, too. Default: `False`.
        keep_operators: Operator types that stay float. Default: `['CumSum', 'NonMaxSuppression', 'Range', 'Resize', 'RoiAlign',
            'Upsample']`.
        exclude: Nodes that stay float: regular expressions on node names and output names.
        range_data: Run the model on the data of this role and keep what exceeds the range of the type in float.
        check_ranges: Without `range_data`: run the model on two random inputs, and keep what comes within a quarter of the
            largest float16 value in float. A model that does not run on them is converted all the same, and the report says so.
            Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("convert-float", model, {"to": to, "convert_io": convert_io, "keep_operators": keep_operators, "exclude": exclude,
        "range_data": range_data, "check_ranges": check_ranges}, run)


def convert_opset(
    model: ModelLike,
    *,
    to: int | None = None,
    version: int | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Converts the model to another version of ONNX's own operators, newer or older.

    Operators whose form changed on the way are rewritten: axes that became inputs or were attributes, bounds of Clip, Upsample
    that became Resize, Softmax over flattened dimensions, and so on; bodies and functions too. An operator that has no equal in
    the wanted version (BatchNormalization in training mode, say, or LayerNormalization below 17) stands in the way: the pass
    fails and names it, and the model is as before.

    The IR version goes up to what the opset came with, and down with an older opset as far as the model allows.

    Args:
        model: the model.
        to: The opset to convert to, 21 if none is given; an older one than the model's has to be given.
        version: The same as `to`.
        run: see :class:`RunOptions`.
    """
    return step("convert-opset", model, {"to": to, "version": version}, run)


def correct_bias(
    model: ModelLike,
    reference: ModelLike | None = None,
    *,
    step_data: str | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Moves the biases of a quantized model so that its layers give the mean outputs of the float model again.

    From the first layer to the last, the mean of each output channel is compared with the float model's on the calibration data,
    and the difference goes to the bias: what layers before it did is made up for, too. Biases in float and as 32-bit codes are
    moved; layers are found by the names of their outputs. Takes a run over the data for each layer.

    Args:
        model: the model.
        reference: The float model that the quantized one was made from.
        step_data: The role of the data. Default: `'calibration'`.
        prepare: Simplify the float model first, as `quantize` does, so that the same layers are in it. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("correct-bias", model, {"step_data": step_data, "prepare": prepare}, run, {"reference": reference})


def deduplicate_initializers(
    model: ModelLike,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Keeps one of several constants with the same type, shape and bits.

    The readers of the others, bodies that capture them included, read the first one of the file. Each graph, body and function on
    its own. Only constants of the same type and shape are read at all, each of them once.

    Left alone: graph inputs with a default (a caller may override one and not the other), sparse constants, two graph outputs,
    and whatever `keep`, quantization annotations or training information name.

    Args:
        model: the model.
        run: see :class:`RunOptions`.
    """
    return step("deduplicate-initializers", model, {}, run)


def deepen(
    model: ModelLike,
    *,
    layers: Sequence[str] | None = None,
    count: int | None = None,
    kernel: int | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Adds layers that pass on what they get, as a start for further training.

    Behind an activation that does nothing the second time (Relu, Clip) comes a new layer with weights that are an identity, and
    the same activation again: a convolution with as many channels where the value is `[N, C, H, W]`, a matrix product where the
    features are the last axis of `[N, D]` or `[T, N, D]`. Behind LSTM, GRU and RNN comes a matrix product without an activation.
    Outputs stay as they are, bit for bit where every number is finite; the result is compared with the model before on synthetic
    inputs all the same (Net2Net).

    Args:
        model: the model.
        layers: Where: patterns over names of nodes and of the values they give; all places by default.
        count: New layers at each place. Default: `1`.
        kernel: Height and width of the kernel of new convolutions; odd. Default: `3`.
        run: see :class:`RunOptions`.
    """
    return step("deepen", model, {"layers": layers, "count": count, "kernel": kernel}, run)


def drop_outputs(
    model: ModelLike,
    *,
    outputs: Sequence[str] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Removes outputs of the graph, and everything that no other output needs.

    Inputs stay, also those that nothing reads any more, and so do the other outputs with their order and their bits: the result
    is compared with the model without these outputs. A name that no output has is refused, and so is a request for all of them.

    Args:
        model: the model.
        outputs: The outputs, by name; what begins with `^` is a regular expression.
        run: see :class:`RunOptions`.
    """
    return step("drop-outputs", model, {"outputs": outputs}, run)


def eliminate_common_subexpressions(
    model: ModelLike,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Computes once what the model computes several times.

    Two operators are the same when operator, attributes and inputs are; the operands of commutative operators may be swapped. The
    readers of the later one then read the earlier one. Within one graph at a time, bodies and functions included; values that a
    body captures twice are captured once.

    Left alone: random operators, operators with bodies, calls of functions, operators of other domains (they may have state), two
    graph outputs of different names, and whatever `keep` protects.

    Args:
        model: the model.
        run: see :class:`RunOptions`.
    """
    return step("eliminate-common-subexpressions", model, {}, run)


def eliminate_dead_code(
    model: ModelLike,
    *,
    keep_functions: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Removes what no graph output depends on.

    Unused operators, constants and initializers, in bodies and functions too; values that bodies capture and do not read;
    optional outputs that nothing reads; functions that nothing calls. Graph inputs and graph outputs stay, used or not, and so
    does what `keep`, quantization annotations or training information name.

    Args:
        model: the model.
        keep_functions: Keep functions that nothing calls. Default: `False`.
        run: see :class:`RunOptions`.
    """
    return step("eliminate-dead-code", model, {"keep_functions": keep_functions}, run)


def equalize(
    model: ModelLike,
    *,
    pairs: bool | None = None,
    residual: bool | None = None,
    strength: float | None = None,
    sweeps: int | None = None,
    step_data: str | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Evens out the ranges of the channels between convolutions, so that one scale for a whole tensor loses less.

    A channel between two convolutions is divided by a number that its weights in the second one are multiplied with; with nothing
    or Relu between them the result is the same up to rounding. Between them may also be a Clip from 0 to a bound: then the data
    says how far each channel goes, channels that reach the bound stay as they are, and the others are not moved past nine tenths
    of it. Values that additions tie together (residual connections) are scaled as one, by how far their channels go on the data.
    Run it before `quantize`; where weights have a scale for each channel, with `pairs: false`.

    Args:
        model: the model.
        pairs: Even out the weights of pairs of convolutions: for one scale a weight tensor. With a scale for each channel of the
            weights it may harm activations. Default: `True`.
        residual: Even out values that additions tie together; without `pairs` also those that one convolution gives to another
            directly. Default: `True`.
        strength: How much of the range moves out of such values: 0 nothing, 1 all, so that every channel goes equally far.
            Default: `1.0`.
        sweeps: Sweeps over all pairs of convolutions at most. Default: `20`.
        step_data: The role of the data that says how far channels go. Default: `'calibration'`.
        prepare: Simplify the model first, so that batch normalization is part of the convolutions. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("equalize", model, {"pairs": pairs, "residual": residual, "strength": strength, "sweeps": sweeps,
        "step_data": step_data, "prepare": prepare}, run)


def extract(
    model: ModelLike,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Keeps the part of the model between named values.

    The result computes `outputs` from `inputs` and has them as its interface, in the given order; without `inputs` it starts
    where the model does. What the outputs do not need is gone. Names, opset imports, functions and metadata stay, and external
    data is written anew with what the part holds. A part that still reads a graph input is refused.

    Args:
        model: the model.
        inputs: Values that become the inputs.
        outputs: Values that become the outputs.
        run: see :class:`RunOptions`.
    """
    return step("extract", model, {"inputs": inputs, "outputs": outputs}, run)


def factorize(
    model: ModelLike,
    *,
    target_macs: float | None = None,
    target_bytes: float | None = None,
    energy: float | None = None,
    basis: Literal["outputs", "weights"] | None = None,
    round_to: int | None = None,
    layers: Sequence[str] | None = None,
    step_keep: Sequence[str] | None = None,
    step_data: str | None = None,
    stats: PathLike | Stats | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Replaces layers with large weights by two with smaller ones: fewer parameters and multiply-accumulates in every runtime.

    A convolution becomes one of the same kernel into fewer channels and a 1x1 convolution behind it, a matrix product becomes
    two. The channels between are the directions in which the layer's outputs vary most on the data, which is the best that a
    layer of that rank can do (principal components of the outputs; with `basis: weights` those of the weight itself, a singular
    value decomposition). What lies in other directions is replaced by its mean where the layer has a bias. Ranks are chosen for
    all layers together: the share of the outputs' variance that is lost is weighed against the multiply-accumulates that go. A
    step `finetune` with the loss `features` then recovers accuracy. Every result is compared with the model that has the same
    weights as products; a difference is an error and nothing is changed.

    Args:
        model: the model.
        target_macs: Multiply-accumulates that may remain, as a share of the model's.
        target_bytes: Bytes of constants that may remain, as a share of the model's.
        energy: Share of the variance of each layer's outputs that has to stay, 0 to 1: each layer gets the lowest rank that keeps
            it.
        basis: Where directions come from. Default: `'outputs'`.
        round_to: Ranks are multiples of this. Default: `1`.
        layers: Layers to factorize: patterns over the names of nodes and weights; all without patterns.
        step_keep: Layers to leave alone: patterns over the names of nodes and weights.
        step_data: The role of the data; they need no labels. Default: `'calibration'`.
        stats: A file of `secateur stats --for gram` in the place of data.
        run: see :class:`RunOptions`.
    """
    return step("factorize", model, {"target_macs": target_macs, "target_bytes": target_bytes, "energy": energy, "basis": basis,
        "round_to": round_to, "layers": layers, "step_keep": step_keep, "step_data": step_data}, run, {"stats": stats})


def finetune(
    model: ModelLike,
    *,
    epochs: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    warmup: float | None = None,
    optimizer: Literal["sgd", "adam"] | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    average: float | None = None,
    masks: Literal["hold-zeros", "none"] | None = None,
    masks_from: PathLike | None = None,
    validation: float | None = None,
    patience: int | None = None,
    step_data: str | None = None,
    loss: Literal["cross-entropy", "mean-squared-error", "binary-cross-entropy", "distillation", "features"] | None = None,
    teacher: ModelLike | None = None,
    temperature: float | None = None,
    features: Sequence[str] | None = None,
    loss_output: str | None = None,
    checkpoint: PathLike | None = None,
    freeze: Sequence[str] | None = None,
    augment: Mapping[str, Any] | None = None,
    shuffle_seed: int | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Trains a model further, so that it recovers from pruning: on labels, or without any on what the model before puts out.

    Gradients are computed by the model's own gradient graph in the engine; no training framework is needed. The float32
    initializers that the loss depends on are trained, and the graph stays as it is. BatchNormalization stays in inference mode:
    its means and variances are not trained and not updated. The learning rate falls to zero along a half cosine. Samples held out
    for validation say when to stop, and the model gets the parameters with the lowest loss on them.

    Args:
        model: the model.
        epochs: Passes over the data. Default: `3`.
        batch: Samples a step. Default: `64`.
        learning_rate: Of the first step, or of the last one of the warm-up. Default: `0.01`.
        warmup: Share of the steps over which the learning rate rises in a line. Default: `0.0`.
        optimizer: How parameters move. Default: `'sgd'`.
        momentum: Momentum of `sgd`. Default: `0.9`.
        weight_decay: Decay of parameters, relative to the learning rate. Default: `0.0`.
        average: What of moving averages of the parameters stays with each step, as 0.99: the model gets the averages. With 0 it
            gets the parameters of the last step. Default: `0.0`.
        masks: What becomes of zeros. Default: `'hold-zeros'`.
        masks_from: An npz with a boolean array for each of some parameters, as `prune_weights` writes it under `masks`: where it
            is false the parameter becomes zero and stays zero.
        validation: Share of the samples that are held out. Default: `0.05`.
        patience: Epochs without a lower loss on them before training stops. Default: `3`.
        step_data: The role of the data. Default: `'training'`.
        loss: The loss. Default: `'cross-entropy'`.
        teacher: The teacher of the losses `distillation` and `features`, a model file; by default the model that the pipeline
            started with.
        temperature: T of the loss `distillation`. Default: `2.0`.
        features: The values that the loss `features` compares: patterns over their names, or over those of the nodes that compute
            them. By default what the last layers before the outputs read, before it is averaged; where pruning cut that, the
            nearest before it that the teacher has with the same shape, and the outputs.
        loss_output: The output that the loss sits on; the first one by default.
        checkpoint: A file that is written after each epoch: a run that was ended goes on from it and ends with the same result.
        freeze: Parameters that stay as they are: patterns over names.
        augment: How images are varied in each epoch, where the description of the data does not say it.
        shuffle_seed: Seed of the order of samples; the run's own by default.
        run: see :class:`RunOptions`.
    """
    return step("finetune", model, {"epochs": epochs, "batch": batch, "learning_rate": learning_rate, "warmup": warmup,
        "optimizer": optimizer, "momentum": momentum, "weight_decay": weight_decay, "average": average, "masks": masks,
        "validation": validation, "patience": patience, "step_data": step_data, "loss": loss, "temperature": temperature,
        "features": features, "loss_output": loss_output, "checkpoint": checkpoint, "freeze": freeze, "augment": augment,
        "shuffle_seed": shuffle_seed}, run, {"masks-from": masks_from, "teacher": teacher})


def fold_constants(
    model: ModelLike,
    *,
    keep_control_flow: bool | None = None,
    safety: Literal["exact", "rounding", "approximate"] | None = None,
    decode: bool | None = None,
    unroll: int | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Computes what is the same in every run, and replaces it by constants.

    Operators whose inputs are all constants are evaluated, in bodies and functions too. `Shape` and `Size` of values with known
    dimensions become constants, and so do small integer tensors whose elements follow from shapes. An `If` with a known condition
    is replaced by the branch taken; a `Loop` that never runs or runs once, by its inputs or its body, and one with few trips by
    all of them on request (`unroll`).

    Left alone: random operators (Dropout that may be in training mode included), graph inputs with a default (a caller may
    override it), `DequantizeLinear` and the `Gather` of a codebook at codes, as `cluster` writes it (the small weight is the
    point of them), operators of other domains, and whatever `keep` protects. A constant never becomes larger than the constants
    it is computed from, or 4 MiB if that is more; and the file never grows beyond `--max-growth`: what counts is the new
    constant's bytes minus those of the constants and nodes that go with it, so a weight that something else still reads is not
    copied. Each refusal is reported.

    Args:
        model: the model.
        keep_control_flow: Leave If and Loop as they are, even when their condition is known. Default: `False`.
        safety: What has to be preserved: `rounding` evaluates everything; `exact` only what gives the same bits in every engine:
            moves, integers, and float arithmetic that IEEE 754 decides, but no functions such as `Exp` and no sums of many
            floats. Default: `'rounding'`.
        decode: Make floats of weights that are stored as codes (`DequantizeLinear` of constants, values looked up in a codebook),
            for engines that would do so in every run; the file grows by that whatever `max-growth` says. Default: `False`.
        unroll: Operators that a Loop with a known number of trips may become, written out trip by trip; with 0 only a Loop that
            runs once is. Default: `0`.
        run: see :class:`RunOptions`.
    """
    return step("fold-constants", model, {"keep_control_flow": keep_control_flow, "safety": safety, "decode": decode,
        "unroll": unroll}, run)


def inline_functions(
    model: ModelLike,
    *,
    functions: Sequence[str] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Replaces calls of model-local functions by what the functions compute.

    Calls in functions and in bodies included; references to attributes get the caller's values or the function's defaults. New
    nodes and values are named `CALL/NAME`, where `CALL` is the name of the calling node. Functions that nothing calls any more
    are removed.

    A function that imports another version of a domain is inlined only if each of its operators has the same form in both
    versions; otherwise the call stays, with a note (`convert_opset` brings both to one version). A function that calls itself is
    an error.

    Args:
        model: the model.
        functions: Names of the functions to inline; all, if empty.
        run: see :class:`RunOptions`.
    """
    return step("inline-functions", model, {"functions": functions}, run)


def merge_lora(
    model: ModelLike,
    adapter: PathLike | None = None,
    *,
    alpha: float | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    prefix: str | None = None,
    scale: float | None = None,
    rename: Sequence[tuple[str, str]] | None = None,
    partial: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Adds a low-rank adapter (LoRA) to the weights that it was trained for.

    The adapter is a safetensors or npz file with pairs of matrices, named as PEFT (`lora_A`, `lora_B`) or kohya (`lora_down`,
    `lora_up`, and `lora_mid` of convolutions) name them; each weight becomes `W + scale · alpha / r · B · A`. A module `a.b`
    stands for the weight of the Gemm, MatMul, Conv or Gather whose node has the path `/a/b/`, or for the weight `a.b.weight`;
    `rename` rewrites module names first. Of kohya's names the beginnings `lora_unet_`, `lora_te_`, `lora_te1_` and `lora_te2_`
    are taken away, and the rest is compared with dots as underscores. Weights that PEFT has trained whole (`modules_to_save`) are
    put in as they are. Every adapter has to find its weight, unless `partial` is given. Other kinds (LoHa, LoKr, DoRA, (IA)3,
    OFT) are refused by name.

    Args:
        model: the model.
        adapter: The file with the adapter.
        alpha: Alpha of every module whose file says none; the file's own comes first. Without it, that of `adapter_config.json`
            beside the file.
        alpha_pattern: Alpha of modules whose names end with a match of the regular expression, as PEFT's `alpha_pattern`.
        prefix: Take only modules whose names start with this, as `lora_te1_` for the first of two text encoders.
        scale: What the adapter counts; a negative number takes it out of weights that it was merged into. Default: `1.0`.
        rename: Rewrites of module names: pairs of a regular expression and what stands for its match, with `$1` for groups.
        partial: Leave adapters out that find no weight. Default: `False`.
        run: see :class:`RunOptions`.
    """
    return step("merge-lora", model, {"alpha": alpha, "alpha_pattern": alpha_pattern, "prefix": prefix, "scale": scale,
        "rename": rename, "partial": partial}, run, {"adapter": adapter})


def prune_blocks(
    model: ModelLike,
    *,
    count: int | None = None,
    target_macs: float | None = None,
    blocks: Sequence[str] | None = None,
    criterion: Literal["features", "recoverability"] | None = None,
    samples: int | None = None,
    step_keep: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    recover: Mapping[str, Any] | None = None,
    step_data: str | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Removes whole residual blocks, so that the model gets shallower and faster in every runtime.

    A block is a region between a value and an addition to it: a bottleneck of a ResNet or MobileNet, an attention or a
    feed-forward part of a transformer. Without it the sum is the value, and what was computed for it goes. Blocks that change the
    shape, with a projection beside them, stay. The blocks without which the features of the model change least go, one after the
    other, each judged in the model that the ones before left. A step `finetune` with the loss `features` then recovers accuracy.
    Every result is compared with the model in which the same blocks add zero; a difference is an error and nothing is changed.

    Args:
        model: the model.
        count: Blocks that go.
        target_macs: Multiply-accumulates that may remain, as a share of the model's: as many blocks go as that takes.
        blocks: The blocks that go: patterns over the names of their last values and of the nodes that add them. No data are
            needed then.
        criterion: How blocks are ranked. With `target_macs` it counts per multiply-accumulate that goes. Default: `'features'`.
        samples: Samples that rank. Default: `64`.
        step_keep: Blocks to leave alone: patterns over the names of their nodes and values.
        features: The values that are compared, as in `finetune`: by default what the last layers before the outputs read.
        recover: The training of the criterion `recoverability`. Default: `{'epochs': 1, 'batch': 32, 'learning-rate': 0.0003,
            'features': []}`.
        step_data: The role of the data; they need no labels. Default: `'calibration'`.
        run: see :class:`RunOptions`.
    """
    return step("prune-blocks", model, {"count": count, "target_macs": target_macs, "blocks": blocks, "criterion": criterion,
        "samples": samples, "step_keep": step_keep, "features": features, "recover": recover, "step_data": step_data}, run)


def prune_channels(
    model: ModelLike,
    *,
    ratio: float | None = None,
    criterion: Literal["magnitude", "batch-norm", "lamp", "fpgm", "reconstruction", "wanda", "gradient", "taylor", "fisher",
        "random"] | None = None,
    norm: Literal["l1", "l2"] | None = None,
    scope: Literal["layer", "global"] | None = None,
    target_macs: float | None = None,
    target_latency: float | None = None,
    target_bytes: float | None = None,
    relative_to: Literal["step", "run"] | None = None,
    iterations: int | None = None,
    recover: Mapping[str, Any] | None = None,
    round_to: int | None = None,
    min_keep: int | None = None,
    max_ratio: float | None = None,
    step_keep: Sequence[str] | None = None,
    attention: Literal["finest", "heads"] | None = None,
    step_seed: int | None = None,
    until: Sequence[str | Mapping[str, Any]] | str | Mapping[str, Mapping[str, Any]] | None = None,
    write_pipeline: PathLike | None = None,
    history: PathLike | None = None,
    replay: PathLike | None = None,
    refit: bool | None = None,
    refit_order: Literal["at-once", "one-by-one"] | None = None,
    step_data: str | None = None,
    training: str | None = None,
    loss: Literal["cross-entropy", "mean-squared-error", "binary-cross-entropy"] | None = None,
    loss_output: str | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Removes whole channels, neurons, heads and hidden units, so that the model gets smaller and faster in every runtime.

    A solver over all tensor axes finds the units that can only be removed together, for any topology: residual connections,
    concatenations, depthwise and grouped convolutions, channel shuffles, attention, recurrent layers. Units are ranked by a
    criterion, and a share of each layer's goes. Inputs and outputs keep their shapes. Every result is compared with the original
    in which the same units are masked; a difference is an error and nothing is changed.

    Args:
        model: the model.
        ratio: Share of the units that go, 0 to 1; not used with a target. Default: `0.3`.
        criterion: How units are ranked. Default: `'magnitude'`.
        norm: The norm that `magnitude` and `lamp` take. Default: `'l2'`.
        scope: Whether each layer loses the same share, or the whole model loses its lowest units. Default: `'layer'`.
        target_macs: Multiply-accumulates that may remain, as a share of the model's.
        target_latency: Time of one run that may remain, as a share of the model's: the fastest of several runs in the engine, on
            one thread. Measured, so another run may choose differently; `history` and `replay` keep a choice.
        target_bytes: Bytes of constants that may remain, as a share of the model's.
        relative_to: What `target_macs` and `target_bytes` are shares of. Default: `'step'`.
        iterations: Rounds in which the model is cut: units are ranked anew, and with `refit` layers refitted, after each. Every
            round takes the same share of what it finds, so that all together reach the ratio or the target. Default: `1`.
        recover: Trains what is left after each round but the last, on the features of the model that the run started with. What
            is left after the last round is for a step `finetune` of its own, with more epochs.
        round_to: The number of units kept in a layer is a multiple of this. Default: `1`.
        min_keep: Fewest units kept in a layer. Default: `1`.
        max_ratio: Greatest share of a layer's units that may go, in all rounds together. Default: `0.95`.
        step_keep: Layers to leave alone: patterns over the names of weights and of the nodes that read them.
        attention: What goes where an axis was split, as in attention: whole heads or the same dimensions of every head. Default:
            `'finest'`.
        step_seed: Seed of the `random` criterion and of the samples for the comparison; the run's own by default.
        until: Search for the most that may go so that bounds hold: `map.drop<=0.005`, `accuracy.drop<=0.01`, or gates with their
            bounds; with bounds on size, multiply-accumulates or latency alone, for the least that has to. `ratio`, `target_macs`
            or `target_bytes` is then the most that goes. Every other sample of the evaluation data chooses, the rest confirms.
        write_pipeline: Where to write the pipeline that gives the same model without the search.
        history: Where to write which units went, as JSON.
        replay: Removes what this file lists instead of ranking units.
        refit: Then refits the weights of the layers that lost inputs to calibration data by least squares, so that the inputs
            that stay make up for those that went. Needs no labels. Default: `False`.
        refit_order: Whether `refit` does all layers at once or one after the other. Default: `'at-once'`.
        step_data: The role of the data for `refit` and the criteria `reconstruction` and `wanda`. Default: `'calibration'`.
        training: The role of the labelled data for the criteria that take gradients. Default: `'training'`.
        loss: The loss that gradients are of. Default: `'cross-entropy'`.
        loss_output: The output that the loss sits on; the first one by default.
        run: see :class:`RunOptions`.
    """
    return step("prune-channels", model, {"ratio": ratio, "criterion": criterion, "norm": norm, "scope": scope,
        "target_macs": target_macs, "target_latency": target_latency, "target_bytes": target_bytes, "relative_to": relative_to,
        "iterations": iterations, "recover": recover, "round_to": round_to, "min_keep": min_keep, "max_ratio": max_ratio,
        "step_keep": step_keep, "attention": attention, "step_seed": step_seed, "until": until, "write_pipeline": write_pipeline,
        "history": history, "refit": refit, "refit_order": refit_order, "step_data": step_data, "training": training,
        "loss": loss, "loss_output": loss_output}, run, {"replay": replay})


def prune_weights(
    model: ModelLike,
    *,
    sparsity: float | None = None,
    threshold: float | None = None,
    pattern: str | None = None,
    criterion: Literal["magnitude", "gradient", "taylor", "fisher", "wanda", "random"] | None = None,
    scope: Literal["output", "layer", "global"] | None = None,
    update: Literal["none", "obs"] | None = None,
    gram_stats: PathLike | Stats | None = None,
    max_sparsity: float | None = None,
    operators: Sequence[str] | None = None,
    step_keep: Sequence[str] | None = None,
    stats: PathLike | Stats | None = None,
    step_data: str | None = None,
    loss: Literal["cross-entropy", "mean-squared-error", "binary-cross-entropy"] | None = None,
    loss_output: str | None = None,
    masks: PathLike | None = None,
    random_seed: int | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Sets the weights that matter least to zero: unstructured, or N of each M.

    Shapes stay as they are: the file shrinks once it is compressed, and runtimes gain only where they have sparse kernels (2:4).
    `prune_channels` is what makes a model faster everywhere. Weights of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN are
    pruned, transposed and shared ones too; biases are not. A weight that is zero already counts as pruned. Criteria with
    gradients take labels (`training` data, or a file that `secateur stats --for gradients` wrote), and `wanda` takes samples.

    Args:
        model: the model.
        sparsity: Share of the weights that are zero afterwards, 0 to 1; 0.5 where nothing else is asked for.
        threshold: Weights whose score is below this become zero, however many they are.
        pattern: N:M along the dimension that is summed over (input channels, for convolutions), for example `2:4`: of each M
            weights the N that matter most stay. Layers whose size is no multiple of M are left alone.
        criterion: How weights are ranked. Default: `'magnitude'`.
        scope: What a weight is ranked against. Default: `'layer'`.
        update: What becomes of the weights that stay. Default: `'none'`.
        gram_stats: Gram matrices of this very model for `update: obs`, as `secateur stats --for gram` writes them; else they are
            collected on `calibration` data.
        max_sparsity: Greatest share of a layer that may become zero, so that no scope or threshold empties one. Default: `0.99`.
        operators: Operators whose weights are pruned. Default: `['Conv', 'ConvTranspose', 'Gemm', 'MatMul', 'LSTM', 'GRU',
            'RNN']`.
        step_keep: Layers to leave alone: patterns over the names of weights and of the nodes that read them.
        stats: Gradient statistics of this very model, as `secateur stats --for gradients` writes them; else they are collected.
        step_data: The role of the data; `training` for criteria with gradients and `calibration` for `wanda` by default.
        loss: The loss that gradients are of. Default: `'cross-entropy'`.
        loss_output: The output that the loss sits on; the first one by default.
        masks: Where to write the masks: an npz with a boolean array for each weight, true where it stays.
        random_seed: Seed of the `random` criterion; the run's own by default.
        run: see :class:`RunOptions`.
    """
    return step("prune-weights", model, {"sparsity": sparsity, "threshold": threshold, "pattern": pattern, "criterion": criterion,
        "scope": scope, "update": update, "max_sparsity": max_sparsity, "operators": operators, "step_keep": step_keep,
        "step_data": step_data, "loss": loss, "loss_output": loss_output, "masks": masks, "random_seed": random_seed}, run,
        {"gram-stats": gram_stats, "stats": stats})


def quantize(
    model: ModelLike,
    *,
    scheme: Literal["int8", "int16", "float8", "dynamic", "weights-int8", "weights-int4", "float16", "bfloat16"] | None = None,
    profile: Literal["ort-x86", "ort-arm", "tensorrt", "qnn", "openvino", "tract", "generic"] | None = None,
    activations: Literal["uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2", "float8e4m3fn", "float8e4m3fnuz",
        "float8e5m2", "float8e5m2fnuz"] | None = None,
    weights: Literal["uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2", "float8e4m3fn", "float8e4m3fnuz",
        "float8e5m2", "float8e5m2fnuz"] | None = None,
    symmetric_activations: bool | None = None,
    symmetric_weights: bool | None = None,
    block: int | None = None,
    layers: Sequence[Mapping[str, Any]] | None = None,
    rounding: Literal["nearest", "gptq", "adaround"] | None = None,
    calibrate: Literal["min-max", "moving-average", "entropy", "mse", "sqnr"] | Mapping[str, Any] | None = None,
    per_channel: bool | None = None,
    reduce_range: bool | None = None,
    saturation: Literal["report", "avoid", "ignore"] | None = None,
    prepare: bool | None = None,
    correct_bias: bool | None = None,
    equalize: bool | None = None,
    heads: Literal["float", "codes"] | None = None,
    exclude: Sequence[str] | None = None,
    step_data: str | None = None,
    stats: PathLike | Stats | None = None,
    until: Sequence[str | Mapping[str, Any]] | str | Mapping[str, Mapping[str, Any]] | None = None,
    write_pipeline: PathLike | None = None,
    gram_stats: PathLike | Stats | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Quantizes weights and activations to 8-bit integers with Q/DQ pairs, placed so that the target engine runs the operators
    between them on integers. Ranges come from the calibration data. Options give the whole model or single layers other
    types: 4-bit weights, 16-bit activations, floats of 8 bits; a value that is read in two types gets a pair for each.

    The report names every node with what becomes of it, integer or float in the target engine, and why; `--dry-run` prints it as
    a table and writes nothing. Operators in bodies of If, Loop and Scan stay float.

    Args:
        model: the model.
        scheme: What becomes integer or narrow, and to which types. The schemes beside `int8` and `int16` are the passes
            `quantize_dynamic`, `quantize_weights` and `convert_float` with their defaults; they need no data. Default: `'int8'`.
        profile: The engine that the result is for: it decides types, symmetry and where pairs go. Default: `'ort-x86'`.
        activations: Type of the codes of activations; that of the scheme and the profile by default. A type that the engine has
            no kernel for is refused, or, by ONNX Runtime's profiles for 16 bits, simulated in float, and the plan says so.
        weights: Type of the codes of weights; `int8` by default, `float8e4m3fn` with the scheme `float8`.
        symmetric_activations: Zero in the middle of the codes of activations; as the profile has it by default, of which
            TensorRT's alone does. Clamps stay, as such a range implies none: ONNX Runtime computes them in float between two
            pairs.
        symmetric_weights: Zero in the middle of the codes of weights. Without, a range that lies on one side of zero has more
            codes, and weights have zero points: TensorRT and OpenVINO take none, ONNX Runtime and QNN one for a whole weight
            (`per-channel: false`). Default: `True`.
        block: Elements along the summed dimension of a matrix product that share a scale of its weight; 0: a whole output channel
            does. Default: `0`.
        layers: Other types for single layers: the first entry whose pattern matches the node's name, an output of it or its
            weight decides. `{match: REGEX, type: int4|int8|...|float, activations: uint8|uint16|...}`, and `per_channel` or
            `block` where they differ. Operators that only move codes have the type of what they read.
        rounding: How the codes of weights are chosen: as for `quantize_weights`, on the second moments of what the float model's
            layers read. Default: `'nearest'`.
        calibrate: How ranges of activations are found. The default, `mse`, beats `min-max` on the models of the comparison table;
            `percentile` may beat both, or clip what matters. Default: `'mse'`.
        per_channel: One scale for each output channel of a weight; else one for the whole weight. Default: `True`.
        reduce_range: Weights with one bit less, for processors without VNNI that add pairs of products in 16 bits. Default:
            `False`.
        saturation: What is done about weights whose products with 8-bit activations saturate on x86 processors without VNNI. Only
            the profiles `ort-x86` and `openvino` have such kernels. Default: `'avoid'`.
        prepare: Simplify the model first, so that batch normalization, padding and weights behind Identity, Transpose or Reshape
            are part of the products. Default: `True`.
        correct_bias: Move each bias by the mean error that the rounded weights cause, found from the mean of each input channel
            (Nagel et al. 2019, section 4.2). Default: `True`.
        equalize: Even out the channels of values that additions tie together first, as `equalize` does with `pairs: false`. Only
            where activations are codes of 8 bits or fewer and ranges come from data. Default: `True`.
        heads: What becomes of the last products of models whose answers have parts: several outputs or scales, or one output that
            is cut into scores, boxes and distributions. Default: `'float'`.
        exclude: Nodes that stay float: regular expressions on node names and output names.
        step_data: The role of the data that ranges come from. Default: `'calibration'`.
        stats: A statistics file (`secateur stats MODEL --for quantize`) to take ranges from, instead of data.
        until: Search for the layers that have to stay float (or 16 bits, where the engine runs those) so that bounds hold:
            `map.drop<=0.005`, `accuracy.drop<=0.01`, `size<=0.4`, or gates with their bounds. Every other sample of the
            evaluation data chooses, the rest confirms.
        write_pipeline: Where to write the pipeline that gives the same model without the search.
        gram_stats: A statistics file (`secateur stats MODEL --for gram`) to take the second moments for `rounding` from, instead
            of data.
        run: see :class:`RunOptions`.
    """
    return step("quantize", model, {"scheme": scheme, "profile": profile, "activations": activations, "weights": weights,
        "symmetric_activations": symmetric_activations, "symmetric_weights": symmetric_weights, "block": block, "layers": layers,
        "rounding": rounding, "calibrate": calibrate, "per_channel": per_channel, "reduce_range": reduce_range,
        "saturation": saturation, "prepare": prepare, "correct_bias": correct_bias, "equalize": equalize, "heads": heads,
        "exclude": exclude, "step_data": step_data, "until": until, "write_pipeline": write_pipeline}, run, {"stats": stats,
        "gram-stats": gram_stats})


def quantize_dynamic(
    model: ModelLike,
    *,
    per_channel: bool | None = None,
    saturation: Literal["report", "avoid", "ignore"] | None = None,
    minimum_elements: int | None = None,
    exclude: Sequence[str] | None = None,
    weights_only: Sequence[str] | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Turns matrix products with constant weights into integer ones that find the range of their input in every run.

    Needs no data. The input becomes unsigned 8-bit codes through DynamicQuantizeLinear, once for all products that read it; the
    weight is stored as 8-bit codes with a scale for each output. Bodies of If and Loop and functions are covered; a weight of a
    graph around a body is stored once. Weights of recurrent layers and of embeddings become codes too, and are computed with in
    float. Convolutions stay float: engines run them several times slower in this form.

    Args:
        model: the model.
        per_channel: One scale for each output column; else one for the whole weight. Default: `True`.
        saturation: What is done about weights whose products saturate on x86 processors without VNNI. Default: `'avoid'`.
        minimum_elements: Weights with fewer elements stay float. Default: `256`.
        exclude: Nodes that stay float: regular expressions on node names and output names.
        weights_only: Operators that compute in float and whose weights alone become codes, as `quantize_weights` writes them:
            LSTM, GRU, RNN, Gather, Einsum, and any other that it takes. Default: `['LSTM', 'GRU', 'RNN', 'Gather', 'Einsum']`.
        prepare: Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("quantize-dynamic", model, {"per_channel": per_channel, "saturation": saturation,
        "minimum_elements": minimum_elements, "exclude": exclude, "weights_only": weights_only, "prepare": prepare}, run)


def quantize_weights(
    model: ModelLike,
    *,
    type: Literal["uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2", "float8e4m3fn", "float8e4m3fnuz",
        "float8e5m2", "float8e5m2fnuz"] | None = None,
    block: int | None = None,
    per_channel: bool | None = None,
    symmetric: bool | None = None,
    form: Literal["qdq", "mat-mul-n-bits"] | None = None,
    criterion: Literal["range", "log-gradient"] | None = None,
    bits: float | None = None,
    widths: Literal["channel", "layer"] | None = None,
    rounding: Literal["nearest", "gptq", "adaround"] | None = None,
    layers: Sequence[Mapping[str, Any]] | None = None,
    correct_bias: bool | None = None,
    step_data: str | None = None,
    stats: PathLike | Stats | None = None,
    labelled: str | None = None,
    gradient_stats: PathLike | Stats | None = None,
    loss: Literal["cross-entropy", "mean-squared-error", "binary-cross-entropy"] | None = None,
    loss_output: str | None = None,
    operators: Sequence[str] | None = None,
    minimum_elements: int | None = None,
    exclude: Sequence[str] | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Stores the constant weights of matrix products, recurrent layers and embeddings as integers; activations stay float.

    The file shrinks to a quarter (`int8`, `float8e4m3fn`) or an eighth (`int4`), and so does the memory traffic of large matrix
    products. Weights may be either operand of a product, may be float16 or bfloat16 (their scales are, too: opset 19), and may
    lie behind Cast and Transpose, in bodies of If and Loop, around them and in functions; a weight with several readers is stored
    once. A weight that something else reads as float is left alone, since the file would grow. A Gemm gets the form that ONNX
    Runtime computes on codes: its weight stored `[K, N]`, a bias with one number for each column, or MatMul and Add.

    Args:
        model: the model.
        type: Type of the codes. Default: `'int8'`.
        block: Elements along the summed dimension that share a scale; 0: a whole output channel does. Default: `0`.
        per_channel: One scale for each output channel; else one for the whole weight. Without effect on blocks. Default: `True`.
        symmetric: Zero is in the middle of the codes; else each scale has a zero point. Default: `True`.
        form: How quantized weights are written. Default: `'qdq'`.
        criterion: What decides on bits and codes. Default: `'range'`.
        bits: Bits a weight, in the mean over all weights: 2 to what the type has; all of them by default. Codes then use 2^bits
            levels; with `criterion: log-gradient` some channels use more and others fewer, and the mean may be a fraction. The
            file holds the type's bits all the same, 4 where none of a weight's channels has more; what is saved shows once it is
            packed.
        widths: What shares a number of bits, with `criterion: log-gradient`. Default: `'channel'`.
        rounding: How codes are chosen. Default: `'nearest'`.
        layers: Other types for single layers: the first entry whose pattern matches the node's name, an output of it or its
            weight decides. `{match: REGEX, type: int4|int8|...|float}`, and `block` where it differs.
        correct_bias: Move the biases of Conv and Gemm by the mean error that the rounded weights cause, for roundings that know
            the rows of the layer. Default: `True`.
        step_data: The role of the data that `gptq` and `adaround` run the model over. Default: `'calibration'`.
        stats: A statistics file (`secateur stats MODEL --for gram`) to take the second moments of layers from, instead of data.
        labelled: The role of the labelled data that `log-gradient` takes gradients on. Default: `'training'`.
        gradient_stats: Gradient statistics of this very model, as `secateur stats --for gradients` writes them, instead of
            labelled data.
        loss: The loss that gradients are of. Default: `'cross-entropy'`.
        loss_output: The output that the loss sits on; the first one by default.
        operators: Operators whose weights are quantized: MatMul, Gemm, LSTM, GRU, RNN, Einsum, the tables that Gather takes rows
            of, and if named Conv and ConvTranspose. ONNX Runtime dequantizes the weights of all but MatMul and Gemm anew in every
            run; of a table it dequantizes the rows that are gathered, which have 8 bits at least. Default: `['MatMul', 'Gemm',
            'LSTM', 'GRU', 'RNN', 'Gather', 'Einsum']`.
        minimum_elements: Weights with fewer elements stay float. Default: `1024`.
        exclude: Nodes whose weights stay float: regular expressions on node names and output names.
        prepare: Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("quantize-weights", model, {"type": type, "block": block, "per_channel": per_channel, "symmetric": symmetric,
        "form": form, "criterion": criterion, "bits": bits, "widths": widths, "rounding": rounding, "layers": layers,
        "correct_bias": correct_bias, "step_data": step_data, "labelled": labelled, "loss": loss, "loss_output": loss_output,
        "operators": operators, "minimum_elements": minimum_elements, "exclude": exclude, "prepare": prepare}, run,
        {"stats": stats, "gradient-stats": gradient_stats})


def rename(
    model: ModelLike,
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    nodes: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Gives inputs, outputs, nodes and values other names.

    Each entry is a name and what it becomes. One that begins with `^` is a regular expression: what it matches of a name is
    replaced, and `$1` stands for its first group; `${1}` before a letter, a digit or `_`, in the file of a pipeline `$${1}`. All
    names change at once, so two can swap theirs. Names in bodies and functions are renamed like those of the main graph; whoever
    reads a renamed value reads it under its new name. Order and types of inputs and outputs stay, and so does everything that is
    computed: the result is compared with the model under its new names. An entry that names nothing, a name that is taken and two
    names that become one are refused.

    Args:
        model: the model.
        inputs: New names of graph inputs, by their old ones. Data of later steps and of the comparison go by the new ones.
        outputs: New names of graph outputs.
        nodes: New names of nodes.
        values: New names of values that are neither inputs nor outputs of the graph: results of nodes, initializers.
        run: see :class:`RunOptions`.
    """
    return step("rename", model, {"inputs": inputs, "outputs": outputs, "nodes": nodes, "values": values}, run)


def search_precision(
    model: ModelLike,
    *,
    types: Sequence[Literal["float", "uint2", "int2", "uint4", "int4", "uint8", "int8", "uint16", "int16", "float8e4m3fn",
        "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"]] | None = None,
    bits: float | None = None,
    max_size: float | None = None,
    max_drop: float | None = None,
    until: Sequence[str | Mapping[str, Any]] | str | Mapping[str, Mapping[str, Any]] | None = None,
    sensitivity: Literal["output", "layer"] | None = None,
    samples: int | None = None,
    pipeline: PathLike | None = None,
    rounding: Literal["nearest", "gptq", "adaround"] | None = None,
    block: int | None = None,
    symmetric: bool | None = None,
    correct_bias: bool | None = None,
    operators: Sequence[str] | None = None,
    minimum_elements: int | None = None,
    exclude: Sequence[str] | None = None,
    step_data: str | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Searches for each layer's weights the type that a budget allows, and quantizes the weights so.

    Every layer is quantized alone, with each of the types, while everything else stays float. Starting from the narrowest type
    everywhere, the layer that gains most for each bit gets more, as long as the budget (`bits`, `max_size`) lasts, or until the
    loss of accuracy is at most `max_drop`. Weights in bodies and functions get the widest type. The result can be written as a
    pipeline of one `quantize_weights` step, which gives the same model again.

    Args:
        model: the model.
        types: Types that a layer may have. Default: `['int4', 'int8']`.
        bits: Bits of a weight on average, scales not counted, at most.
        max_size: Size of the result as a share of the input's, at most.
        max_drop: Loss of accuracy on the evaluation data (0.01: one point), at most; the smallest model that keeps it is searched
            for.
        until: Search for the fewest bits with which bounds hold: `map.drop<=0.005`, `accuracy.drop<=0.01`, or gates with their
            bounds; with bounds on size or latency alone, for the most bits. Every other sample of the evaluation data chooses,
            the rest confirms.
        sensitivity: What a layer's precision is judged by. Default: `'output'`.
        samples: Samples of the calibration data that the model's outputs are compared on. Default: `16`.
        pipeline: Where to write the pipeline.
        rounding: How codes are chosen. Default: `'gptq'`.
        block: Elements along the summed dimension that share a scale; 0: a whole output channel does. Default: `0`.
        symmetric: Zero is in the middle of the codes; else each scale has a zero point. Default: `True`.
        correct_bias: Move the biases of Conv and Gemm by the mean error that the rounded weights cause. Default: `True`.
        operators: Operators whose weights are quantized: MatMul, Gemm, Conv, ConvTranspose. Default: `['Conv', 'Gemm',
            'MatMul']`.
        minimum_elements: Weights with fewer elements stay float. Default: `1024`.
        exclude: Nodes whose weights stay float: regular expressions on node names and output names.
        step_data: The role of the data that sensitivities and codes come from. Default: `'calibration'`.
        run: see :class:`RunOptions`.
    """
    return step("search-precision", model, {"types": types, "bits": bits, "max_size": max_size, "max_drop": max_drop,
        "until": until, "sensitivity": sensitivity, "samples": samples, "pipeline": pipeline, "rounding": rounding,
        "block": block, "symmetric": symmetric, "correct_bias": correct_bias, "operators": operators,
        "minimum_elements": minimum_elements, "exclude": exclude, "step_data": step_data}, run)


def simplify(
    model: ModelLike,
    *,
    safety: Literal["exact", "rounding", "approximate"] | None = None,
    step_only: Sequence[str] | None = None,
    except_: Sequence[str] | None = None,
    families: Sequence[str] | None = None,
    step_rules: Sequence[PathLike] | None = None,
    step_keep: Sequence[str] | None = None,
    step_fuel: int | None = None,
    step_max_growth: float | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Makes the model smaller and faster without changing what it computes.

    Folds constants, applies the rewrite rules, computes common subexpressions and equal constants once, and removes what nothing
    depends on, in turns until nothing changes any more. The parts are the rules (`secateur rules list`) and the passes
    `fold_constants`, `eliminate_common_subexpressions`, `deduplicate_initializers` and `eliminate_dead_code`.

    Graph inputs and outputs keep names, order and types; the file does not grow beyond `step_max_growth`.

    Args:
        model: the model.
        safety: What has to be preserved: `exact` (the same bits), `rounding` (the same function, floats may differ by rounding)
            or `approximate` (rules that say so may change results). Default: `'rounding'`.
        step_only: Rules and passes to use; all, if empty.
        except_: Rules and passes to leave out.
        families: Families of rules beyond the usual ones: `ort`, whose operators only ONNX Runtime has, `ort-latest`, whose
            operators only its newest releases have, `parallel`, which makes one product of several of one value and splits it.
        step_rules: Folders with more rules, relative to the pipeline's file.
        step_keep: Patterns (regular expressions) of nodes and values that must stay as they are.
        step_fuel: Rule applications before the rules stop.
        step_max_growth: By which share the file may grow (0.05: by five per cent).
        run: see :class:`RunOptions`.
    """
    return step("simplify", model, {"safety": safety, "step_only": step_only, "except_": except_, "families": families,
        "step_rules": step_rules, "step_keep": step_keep, "step_fuel": step_fuel, "step_max_growth": step_max_growth}, run)


def smooth_quant(
    model: ModelLike,
    *,
    alpha: float | None = None,
    step_data: str | None = None,
    prepare: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Moves outliers of activations into weights, so that 8-bit codes of both lose less (Xiao et al. 2022).

    Between a normalization and the matrix products that read it, channel `j` is divided by `max|x_j|^alpha / max|w_j|^(1 -
    alpha)`, and the weights that multiply it take the factor. The model computes the same up to rounding. Run it before
    `quantize`.

    Args:
        model: the model.
        alpha: How much of the range moves: 0 leaves weights even, 1 activations. Default: `0.5`.
        step_data: The role of the data that says how far each channel goes. Default: `'calibration'`.
        prepare: Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen. Default: `True`.
        run: see :class:`RunOptions`.
    """
    return step("smooth-quant", model, {"alpha": alpha, "step_data": step_data, "prepare": prepare}, run)


def transfer_features(
    model: ModelLike,
    *,
    at: str | None = None,
    head: ModelLike | Sequence[ModelLike] | None = None,
    features_only: bool | None = None,
    method: Literal["logistic", "ridge"] | None = None,
    c: float | None = None,
    alpha: float | None = None,
    standardize: bool | None = None,
    classes: int | None = None,
    softmax: bool | None = None,
    step_output: str | None = None,
    step_data: str | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Keeps a model up to a value and puts a new linear head on it, trained on labelled data, or heads from other models.

    What stands behind the value `at` goes. With `head` it feeds other models, whose outputs become those of the result; weights
    that are equal are stored once. Otherwise a linear head is trained: the features of every sample are computed once and kept in
    a temporary file; the head is fitted to them in float64 and written as one Gemm. Features are standardised for the fit, and
    the scale is folded into the weights, so that the model takes no more steps. The bias is not penalised. Integer labels are
    classes from 0 on and each needs a sample; float labels are targets, for `ridge`. Where folders are the classes, their names
    go into the metadata entry `classes`, as a JSON list from class 0 on. `evaluate` says how good the result is on other data.

    Args:
        model: the model.
        at: The value that features are taken from; `auto` is what the last Gemm or MatMul with constant weights reads. Default:
            `'auto'`.
        head: Models that read the features, instead of a trained head; each has one input without a default.
        features_only: Write the cut model without a head. Default: `False`.
        method: How the head is trained. Default: `'logistic'`.
        c: Inverse strength of the penalty of `logistic`: the sum of losses counts this much more than half the square of the
            weights. Default: `1.0`.
        alpha: Strength of the penalty of `ridge`: the square of the weights counts this much more than the sum of squared errors.
            Default: `1.0`.
        standardize: Whether features are standardised for the fit, so that the penalty does not depend on their units. Default:
            `True`.
        classes: Number of classes; by default the largest label and one.
        softmax: End with a Softmax; only after `logistic`, whose scores are logits. Default: `False`.
        step_output: Name of the head's output. Default: `'scores'`.
        step_data: The role of the data. Default: `'training'`.
        run: see :class:`RunOptions`.
    """
    return step("transfer-features", model, {"at": at, "features_only": features_only, "method": method, "c": c, "alpha": alpha,
        "standardize": standardize, "classes": classes, "softmax": softmax, "step_output": step_output, "step_data": step_data},
        run, {"head": several(head)})


def transfer_merge(
    model: ModelLike,
    others: ModelLike | Sequence[ModelLike],
    *,
    method: Literal["linear", "slerp", "task-arithmetic", "ties"] | None = None,
    weights: Sequence[float] | None = None,
    base: ModelLike | None = None,
    scale: float | None = None,
    density: float | None = None,
    align: bool | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Merges the weights of models that have the same graph: copies of one model trained apart.

    The graph, and everything but the weights, is that of the first model. Nodes correspond by their order, or by the names of
    their results; names of weights do not matter. Models whose graphs differ are refused with the first node that does, and so
    are constants that differ and are no floats. With `align`, channels, neurons and hidden units of the other models are first
    put in the order that makes their weights most alike to the first model's, which does not change what those models compute.

    Args:
        model: the model.
        others: The other models.
        method: How weights are merged. Default: `'linear'`.
        weights: What each model counts, the first one first; all the same by default. `linear` and `slerp` divide by their sum.
        base: The model that all were trained from, for `task-arithmetic` and `ties`.
        scale: What the merged differences from the base are multiplied with. Default: `1.0`.
        density: Share of the differences of each model that `ties` keeps: the largest. Default: `0.2`.
        align: Put the units of the other models in the order of the first one's. Default: `False`.
        run: see :class:`RunOptions`.
    """
    return step("transfer-merge", model, {"method": method, "weights": weights, "scale": scale, "density": density,
        "align": align}, run, {"with": several(others), "base": base})


def transfer_parameters(
    model: ModelLike,
    source: ModelLike | None = None,
    *,
    state_dict: Mapping[str, Any] | None = None,
    match: Literal["auto", "name", "structure"] | None = None,
    rename: Sequence[tuple[str, str]] | None = None,
    adapt: Sequence[Literal["layout", "batch-norm", "dtype", "input-channels", "positions", "head"]] | None = None,
    head: Literal["initialise", "slice"] | None = None,
    head_offset: int | None = None,
    pruned: PathLike | None = None,
    require: float | None = None,
    partial: bool | None = None,
    batch_norm: Mapping[str, str] | None = None,
    epsilon: float | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Copies weights from another model, or from a safetensors or npz file, and says what became of each.

    The model is the target: its operators stay and only its weights change. Weights are paired by name, or by structure:
    operators with weights are compared by what they compute and by the operators before and behind them, which needs no names at
    all. Weights that are computed from constants are folded first, in both models.

    What is stored in another form is brought into the target's: transposed, with BatchNormalization folded in or made an
    identity, in another element type. Changes that alter the function need `adapt`. Every weight of both models is in the report
    with its fate; weights in bodies and functions are left (`inline_functions` comes first). Nothing is written when a weight
    stays behind on either side, unless `partial` or `require` accepts that.

    A file of named tensors may be the state dict of a PyTorch model whose exporter has renamed, transposed and folded weights.
    Its layers are found by names and by the paths of nodes (`/enc/layers.0/q_proj/MatMul`), gates of LSTM and GRU are reordered,
    packed projections of attentions are split, and normalisations are folded where the target has them folded. An operator is
    loaded whole or not at all.

    Args:
        model: the model.
        source: The model (.onnx) or weight file (.safetensors, .npz) that the weights come from.
        state_dict: the weights of the source by name, as arrays or tensors of a framework, in the place of `source`.
        match: How weights are paired. Default: `'auto'`.
        rename: Pairs of a regular expression and a replacement (`$1` is its first group), applied to the source's names in order.
        adapt: Kinds of change that are allowed beside `layout`, `batch_norm` and `dtype`.
        head: What the adapter `head` does to a last layer with another number of classes. Default: `'initialise'`.
        head_offset: The first of the source's classes that a sliced head keeps. Default: `0`.
        pruned: The history of `prune_channels` by which the target was cut: the source is cut in the same way first.
        require: Share of the target's parameters, from 0 to 1, that has to come from the source, else nothing is written; weights
            may stay behind then.
        partial: Accept that weights of the target or of the source stay behind. Default: `False`.
        batch_norm: From a file of tensors: layers and the batch normalisations that are folded into them here, where names do not
            tell.
        epsilon: From a file of tensors: what a batch normalisation that is folded here adds to the variance. Default: `1e-05`.
        run: see :class:`RunOptions`.
    """
    with given_weights(source, state_dict) as weights:
        return step("transfer-parameters", model, {"match": match, "rename": rename, "adapt": adapt, "head": head,
            "head_offset": head_offset, "require": require, "partial": partial, "batch_norm": batch_norm, "epsilon": epsilon},
            run, {"from": weights, "pruned": pruned})


def transfer_structure(
    model: ModelLike,
    source: ModelLike | None = None,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    into_inputs: Sequence[str] | None = None,
    into_outputs: Sequence[str] | None = None,
    init: Literal["kaiming", "xavier", "zeros", "identity", "keep"] | None = None,
    prefix: str | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Takes the architecture of a model, or of a part of it, with fresh weights; or puts it in the place of a part of another
    model.

    Without `from` the model itself, or the part of it between `inputs` and `outputs`, is the result, with new weights by default.

    With `from` the model is the target: what computes its values `into_outputs` from `into_inputs` is replaced by the other
    model, or by the part of that between `inputs` and `outputs`. Opset and IR version are brought to the newer of both, and an
    operator that cannot be converted is an error that names it. An input of the part that has no value of its name in the target
    becomes an input of the result. A name that the target has already becomes `PREFIX/NAME`; functions, imports and metadata of
    both survive. Types and shapes at the cuts have to agree. Running the part alone and in the result gives the same bits in the
    same engine.

    Args:
        model: the model.
        source: The model that the part comes from.
        inputs: Values that become the part's inputs; by default it starts where its model does.
        outputs: Values that become the part's outputs; by default all outputs of its model.
        into_inputs: With `from`: values of the target that the part reads, in the order of its inputs; by default those of the
            same names.
        into_outputs: With `from`: values of the target that the part gives, in the order of its outputs; by default those of the
            same names.
        init: New weights for the part; by default `keep` with `from` and `kaiming` without.
        prefix: With `from`: what comes before names that the target has already. Default: `'source'`.
        run: see :class:`RunOptions`.
    """
    return step("transfer-structure", model, {"inputs": inputs, "outputs": outputs, "into_inputs": into_inputs,
        "into_outputs": into_outputs, "init": init, "prefix": prefix}, run, {"from": source})


def widen(
    model: ModelLike,
    *,
    ratio: float | None = None,
    layers: Sequence[str] | None = None,
    round_to: int | None = None,
    shares: Literal["random", "equal"] | None = None,
    **run: Unpack[RunOptions],
) -> Outcome:
    """Makes layers wider without changing what the model computes, as a start for further training.

    Channels, neurons and hidden units are copied, and whatever sums over them counts each copy for a share (Net2Net). What is
    tied to a layer (normalisation, additions, depthwise convolutions, all gates of a recurrent layer) grows with it. A layer
    stays as it is where copies would count twice: attention, normalisation across channels, quantized weights, inputs and outputs
    of the model. The result is compared with the model before on synthetic inputs, and a difference beyond rounding is refused.

    Args:
        model: the model.
        ratio: Size of each layer afterwards, as a multiple of its size before. Default: `1.5`.
        layers: Layers to widen: patterns over names of nodes and weights; all by default.
        round_to: New sizes are rounded up to a multiple of this. Default: `1`.
        shares: Copies of a unit count alike, or for seeded random shares, so that training moves them apart. Default: `'random'`.
        run: see :class:`RunOptions`.
    """
    return step("widen", model, {"ratio": ratio, "layers": layers, "round_to": round_to, "shares": shares}, run)

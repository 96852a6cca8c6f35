//! The pass `bake`.
//!
//! [`image`] writes preprocessing as a graph before the model, [`boxes`] and [`classes`] what is behind it; `chain` puts them together, and
//! [`check`] compares the result on images with what data sets do to them.

mod boxes;
mod check;
mod classes;
mod fits;
mod image;
mod ops;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::batch::{Placement, placements};
use crate::analysis::{self, public_type};
use crate::data::{self, BoxesSpec, Part, Preprocess, PreprocessSpec};
use crate::ir::{Dim, Graph, GraphMeta, Model, NodeKind, TensorError, ValueId};
use crate::passes::{About, Context, ConvertOpset, Pass, PassError, PassReport, ResourceError, Safety};
use crate::transfer::chain::{ChainError, Links, chain, links};
use crate::transfer::splice::{SpliceError, free};

pub use classes::Classes;

const NAME: &str = "bake";

/// The first opset with every form of operator that is written here.
const OPSET: i64 = 13;

/// Puts preprocessing and post-processing into the model, as data descriptions declare them.
///
/// With `preprocess` the model takes images as they are decoded: `uint8 [N, height, width, 3]`, red, green and blue, of any height and
/// width; all images of a run have the same. They are resized, letterboxed or cropped, their channels ordered and their pixels scaled by operators
/// that compute what data sets do to images: in doubles for `bilinear`, so that the network gets the same bits, and in floats for
/// `antialias`, where a pixel may differ by rounding. The input is named `image` and denoted `IMAGE`, and data descriptions leave
/// their own preprocessing out for such a model.
///
/// With `boxes` the outputs of a detector become `boxes` (`float [n, 4]`: left, top, right and bottom in pixels of the image as it came
/// in), `scores` (`float [n]`) and `classes` (`int64 [n]`), the best first, after suppression by class. Where the declaration or the model
/// says categories, the last one is called `categories`. With `classes` scores become shares or the number of the best class.
///
/// The opset is raised to 13 where it is older. Where the pipeline has images, the result is run on them beside the model as it was, with
/// the preprocessing that the data declare: the largest difference of pixels and of outputs is reported, and pixels that differ by more than
/// a step of 255 refuse the result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Bake {
    /// How images become the input: a preset or fields, as in data descriptions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessSpec>,
    /// The input that takes images, where the model has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// How boxes are read from the outputs: a layout or fields, as in data descriptions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<data::Boxes>,
    /// What becomes of scores of classes: `softmax` or `argmax`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// The output with the scores, for `classes`; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<String>,
    /// The axis of the classes, for `classes`; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<i64>,
}

impl Pass for Bake {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).replacing()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let boxes = self.settled()?;
        let mut report = PassReport::default();
        let before = model.clone();
        let mut baked = model.clone();
        raise(&mut baked, context, &mut report)?;
        baked.name_values();
        analysis::infer(&mut baked);
        let taken = match &self.preprocess {
            Some(spec) => Some(self.take_images(&mut baked, spec, boxes.is_some(), &mut report)?),
            None => None,
        };
        if let (Some(layout), Some(taken)) = (&boxes, &taken) {
            give_boxes(&mut baked, layout, taken, context, &mut report)?;
        }
        let scores = match self.classes {
            Some(classes) => Some(self.give_classes(&mut baked, classes, context, &mut report)?),
            None => None,
        };
        report.changed = true;
        report.rebased = true;
        if let Some(taken) = &taken {
            let subject = check::Subject {
                before: &before,
                after: &baked,
                taken,
                boxes: boxes.as_ref(),
                scores: scores.as_ref(),
            };
            check::check(&subject, context, &mut report);
        }
        *model = baked;
        Ok(report)
    }
}

/// What became of the input.
struct Taken {
    preprocess: Preprocess,
    /// The input that the model had.
    input: String,
    /// The input that takes images.
    image: String,
    /// The value with preprocessed images.
    result: String,
    /// Width and height of the input, where they are known.
    canvas: Option<[u32; 2]>,
}

/// The output that scores were read from, and what became of it.
struct Scores {
    output: String,
    classes: Classes,
    axis: i64,
    /// The output that it is now.
    result: String,
}

impl Bake {
    /// The layout of boxes with everything that it says; refuses options that do not fit each other.
    fn settled(&self) -> Result<Option<BoxesSpec>, PassError> {
        if self.preprocess.is_none() && self.boxes.is_none() && self.classes.is_none() {
            return Err(option(
                "say what to put into the model: preprocess, boxes or classes",
            ));
        }
        if self.input.is_some() && self.preprocess.is_none() {
            return Err(option("input: it is of preprocess, and there is none"));
        }
        if self.classes.is_none() {
            let lonely = [("scores", self.scores.is_some()), ("axis", self.axis.is_some())];
            if let Some((name, _)) = lonely.iter().find(|(_, there)| *there) {
                return Err(option(format!("{name}: it is of classes, and there is none")));
            }
        }
        let Some(boxes) = &self.boxes else { return Ok(None) };
        if self.classes.is_some() {
            return Err(option(
                "classes and boxes: boxes come with their classes already; only one of both is possible",
            ));
        }
        if self.preprocess.is_none() {
            return Err(option(
                "boxes: they are in pixels of the image, which takes preprocess: say how images become the input",
            ));
        }
        let resolved = BoxesSpec::from(boxes.clone()).resolved();
        let resolved = resolved.map_err(|reason| option(format!("boxes: {reason}")))?;
        if resolved.code.is_none() {
            return Err(option(
                "boxes: say the layout, or how boxes are coded (code); `secateur evaluate` says which layout the outputs fit",
            ));
        }
        Ok(Some(resolved))
    }

    /// The index and the name of the input that takes images.
    fn chosen(&self, graph: &Graph) -> Result<(usize, String), PassError> {
        let named = |id: &crate::ir::NodeId| {
            graph
                .value(ValueId::new(*id, 0))
                .map(|value| value.name.to_string())
        };
        let open: Vec<(usize, String)> = graph
            .inputs()
            .iter()
            .enumerate()
            .filter(|(_, id)| !has_default(graph, **id))
            .filter_map(|(at, id)| Some((at, named(id)?)))
            .collect();
        let names = || {
            open.iter()
                .map(|(_, name)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        match (&self.input, open.as_slice()) {
            (Some(wanted), _) => open
                .iter()
                .find(|(_, name)| name == wanted)
                .cloned()
                .ok_or_else(|| {
                    option(format!(
                        "input: there is no input {wanted}; the model has {}",
                        names()
                    ))
                }),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(option(format!(
                "input: say which input takes images; the model has {}",
                names()
            ))),
        }
    }

    /// Puts preprocessing before the model.
    fn take_images(
        &self,
        model: &mut Model,
        spec: &PreprocessSpec,
        framed: bool,
        report: &mut PassReport,
    ) -> Result<Taken, PassError> {
        let (at, input) = self.chosen(&model.graph)?;
        let id = model.graph.inputs().get(at).copied();
        let id = id.ok_or_else(|| unfit(&input, "is no input"))?;
        if data::takes_images(&model.graph, &input) {
            return Err(unfit(&input, "takes images as they are already"));
        }
        let ty = public_type(model.graph.ty(ValueId::new(id, 0)));
        let dtype = ty
            .dtype()
            .ok_or_else(|| unfit(&input, "is not a tensor of a known type"))?;
        let shape: Vec<Dim> = match ty.shape() {
            Some(shape) if shape.len() == 4 => shape.to_vec(),
            _ => return Err(unfit(&input, format!("is {ty}, and images have four axes"))),
        };
        let preprocess = spec
            .resolve()
            .and_then(|plain| plain.for_input(Some(&shape)))
            .map_err(|reason| option(format!("preprocess: {reason}")))?;
        fits::check_type(&preprocess, &input, dtype)?;
        let batch = match shape.first() {
            Some(batch) if !framed => batch.clone(),
            Some(batch) if batch.fixed().is_some_and(|size| size != 1) => {
                return Err(unfit(
                    &input,
                    format!(
                        "takes {batch} images a run, and boxes are of one: `bind` can give it a batch of 1"
                    ),
                ));
            }
            _ => Dim::Fixed(1),
        };
        let image = free(&model.graph, "image").to_string();
        let result = free(&model.graph, "preprocess/result").to_string();
        let target = image::ImageInput {
            image: &image,
            result: &result,
            batch,
            dtype,
            sizes: fits::fixed_sizes(&preprocess, &shape),
            framed,
        };
        let made = image::image(&preprocess, &target).map_err(fault)?;
        fits::check_sizes(&preprocess, made.sizes, &input, &shape)?;
        let canvas = made.canvas();
        let mut first = part(model, made.graph);
        analysis::infer(&mut first);
        let values = first.graph.output_values();
        let found = values.first().copied().flatten();
        let found = found.ok_or_else(|| unfit(&input, "got no preprocessing"))?;
        let count = first.graph.operator_count() as u64;
        let frame = |name: &str| image::FRAME.contains(&name);
        let done = chain(&mut first, model, &Links::from([(at, found)]), &frame, "model").map_err(refused)?;
        *model = first;
        report.add("preprocessing operator added", count);
        report.notes.extend(renamed(done.renamed));
        report.notes.push(format!(
            "the input {input} is {image} now: uint8 images, red, green, blue, as they are decoded"
        ));
        report
            .notes
            .extend(fits::only_of_that_size(&preprocess, target.sizes));
        Ok(Taken {
            preprocess,
            input,
            image,
            result,
            canvas,
        })
    }

    /// Puts `classes` behind the model.
    fn give_classes(
        &self,
        model: &mut Model,
        classes: Classes,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Scores, PassError> {
        let outputs = output_names(model);
        let wanted = self.scores.as_ref().or(outputs.first());
        let output = wanted.filter(|name| outputs.contains(name)).ok_or_else(|| {
            let wanted = wanted.map_or("", String::as_str);
            option(format!(
                "scores: there is no output {wanted}; the model has {}",
                outputs.join(", ")
            ))
        })?;
        let ty = output_type(model, output);
        let axis = self.axis.unwrap_or(1);
        let made = classes::classes(classes, axis, output, &ty)?;
        let kept = |name: &str| name != output || context.keeps(name);
        let given = [(output.clone(), made.input)];
        put_behind(model, made.graph, &given, &kept, report)?;
        Ok(Scores {
            output: output.clone(),
            classes,
            axis,
            result: made.output,
        })
    }
}

/// Puts the reading of boxes behind the model.
fn give_boxes(
    model: &mut Model,
    layout: &BoxesSpec,
    taken: &Taken,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let made = boxes::boxes(layout, &answers(model, taken)?, taken.canvas)?;
    let kept = |name: &str| context.keeps(name) && !image::FRAME.contains(&name);
    put_behind(model, made.graph, &made.links, &kept, report)?;
    if layout.has(Part::Keypoints) {
        report.leave(
            "keypoints",
            "only boxes, scores and classes are put into the model",
        );
    }
    if made.categories {
        report
            .notes
            .push("what stands for a class is its category: the output is named categories".to_owned());
    }
    Ok(())
}

/// The outputs of the model without what preprocessing added, each as it is for one image.
fn answers(model: &Model, taken: &Taken) -> Result<Vec<boxes::Answer>, PassError> {
    let sizes: BTreeMap<String, Vec<u64>> = model
        .graph
        .inputs()
        .iter()
        .filter(|id| !has_default(&model.graph, **id))
        .filter_map(|id| {
            let value = model.graph.value(ValueId::new(*id, 0))?;
            let [width, height] = taken.canvas.unwrap_or([64, 64]).map(u64::from);
            let dims = match *value.name == *taken.image {
                true => vec![1, height, width, 3],
                false => value
                    .ty
                    .shape()?
                    .iter()
                    .map(|dim| dim.fixed().map_or(1, |size| size.max(1) as u64))
                    .collect(),
            };
            Some((value.name.to_string(), dims))
        })
        .collect();
    let places = placements(model, &sizes, 1);
    output_names(model)
        .into_iter()
        .filter(|name| !image::FRAME.contains(&name.as_str()))
        .map(|name| {
            let ty = output_type(model, &name);
            let (Some(dtype), Some(shape)) = (ty.dtype(), ty.shape()) else {
                return Err(unfit(
                    &name,
                    format!("is {ty}: its rank is not known before it runs"),
                ));
            };
            let mut dims: Vec<Option<u64>> = shape
                .iter()
                .map(|dim| dim.fixed().and_then(|size| u64::try_from(size).ok()))
                .collect();
            match places.get(&name) {
                Some(place) if *place != Placement::FIRST => of_one_image(&mut dims, *place),
                None if dims.first() != Some(&Some(1)) => {}
                _ => drop(dims.drain(..1.min(dims.len()))),
            }
            Ok(boxes::Answer { name, dtype, dims })
        })
        .collect()
}

/// The dimensions of one image's part of a value whose batch of one is a factor of an axis: its other factors stay.
fn of_one_image(dims: &mut Vec<Option<u64>>, place: Placement) {
    let Some(Some(size)) = dims.get(place.axis).copied() else {
        return;
    };
    let factors = [size / place.minor.max(1), place.minor];
    let others = factors.into_iter().filter(|factor| *factor != 1).map(Some);
    dims.splice(place.axis..=place.axis, others);
}

/// Puts a graph behind the model. `given`: values and the inputs of the graph that read them.
fn put_behind(
    model: &mut Model,
    graph: Graph,
    given: &[(String, String)],
    kept: &dyn Fn(&str) -> bool,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let mut second = part(model, graph);
    analysis::infer(model);
    analysis::infer(&mut second);
    let found = links(&model.graph, &second.graph, given).map_err(refused)?;
    let done = chain(model, &second, &found, kept, "baked").map_err(refused)?;
    report.add("post-processing operator added", done.operators as u64);
    let now = output_names(model);
    let own = |name: &String| !image::FRAME.contains(&name.as_str()) && !now.contains(name);
    let gone = done.dropped.into_iter().filter(own);
    report
        .notes
        .extend(gone.map(|name| format!("{name} is no output any more; `keep` keeps it")));
    report.notes.extend(renamed(done.renamed));
    Ok(())
}

fn renamed(names: Vec<(String, String)>) -> impl Iterator<Item = String> {
    names.into_iter().map(|(old, new)| format!("{old} is {new}"))
}

/// A graph as a model that speaks what `model` does.
fn part(model: &Model, mut graph: Graph) -> Model {
    graph.meta = GraphMeta {
        name: model.graph.meta.name.clone(),
        doc_string: model.graph.meta.doc_string.clone(),
        metadata: model.graph.meta.metadata.clone(),
        ..GraphMeta::default()
    };
    Model {
        header: model.header.clone(),
        opset_imports: model.opset_imports.clone(),
        metadata: model.metadata.clone(),
        graph,
        functions: Vec::new(),
    }
}

/// Brings an older opset to the first one that has what is put in.
fn raise(model: &mut Model, context: &Context<'_>, report: &mut PassReport) -> Result<(), PassError> {
    if model.opset().is_some_and(|opset| opset >= OPSET) {
        return Ok(());
    }
    let raised = ConvertOpset::at_least(OPSET).run(model, context);
    let raised = raised.map_err(|error| match error {
        PassError::Model { node, message, .. } => unfit(&node, format!("opset {OPSET} is needed: {message}")),
        other => other,
    })?;
    if raised.changed {
        report.add(&format!("converted to opset {OPSET}"), 1);
    }
    match model.opset() {
        Some(_) => Ok(()),
        None => Err(option(
            "the model imports no operators of ONNX, which are what is put into it",
        )),
    }
}

fn has_default(graph: &Graph, id: crate::ir::NodeId) -> bool {
    matches!(graph.get(id).map(|node| &node.kind), Some(NodeKind::Input(input)) if input.default.is_some())
}

fn output_names(model: &Model) -> Vec<String> {
    let outputs = model.graph.outputs().iter();
    outputs.map(|output| output.name.to_string()).collect()
}

/// What is known of the type of an output.
fn output_type(model: &Model, name: &str) -> crate::ir::ValueType {
    let outputs = model.graph.outputs().iter().zip(model.graph.output_values());
    let found = outputs
        .filter(|(output, _)| *output.name == *name)
        .find_map(|(output, value)| {
            let inferred = public_type(model.graph.ty(value?));
            Some(match inferred.contradicts(&output.ty) {
                true => inferred,
                false => inferred.refined_by(&output.ty),
            })
        });
    found.unwrap_or_default()
}

fn option(message: impl Into<String>) -> PassError {
    PassError::Option {
        pass: NAME,
        message: message.into(),
    }
}

fn unfit(value: &str, message: impl Into<String>) -> PassError {
    PassError::Model {
        pass: NAME,
        node: value.to_owned(),
        message: message.into(),
    }
}

fn fault(error: TensorError) -> PassError {
    PassError::resource(NAME, ResourceError::from(error))
}

fn refused(error: ChainError) -> PassError {
    match error {
        ChainError::Edit(source) | ChainError::Splice(SpliceError::Edit(source)) => {
            PassError::Edit { pass: NAME, source }
        }
        other => option(other.to_string()),
    }
}

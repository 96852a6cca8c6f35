//! One operator as a model, its gradients, and their comparison with finite differences.

use secateur::autodiff::{GradientOptions, Loss, Wrt, gradients};
use secateur::engine::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session, TractEngine};
use secateur::ir::{
    AttributeValue, DType, GraphBuilder, GraphOutput, Input, Model, Name, Operator, OpsetImport, Tensor,
    Value, ValueType, tensor_type,
};
use secateur::proto;

use prost::Message as _;
use secateur::format::{ExternalFiles, model_to_proto, tensor_to_proto};

use super::random::Random;

/// An input of the operator.
#[derive(Clone)]
pub(super) enum Operand {
    /// Left out.
    None,
    /// Floats that gradients are taken of.
    Varied(Vec<i64>, Vec<f64>),
    /// Floats in an initializer.
    Fixed(Vec<i64>, Vec<f64>),
    /// Any other constant.
    Constant(Tensor),
    /// Anything, fed at run time.
    Fed(Tensor),
}

/// One operator with its operands.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) operator: Operator,
    pub(super) opset: i64,
    pub(super) operands: Vec<Operand>,
    pub(super) outputs: usize,
    /// Which output the loss sits on.
    pub(super) output: usize,
    /// Axis 0 of every fed input is symbolic: `N`.
    pub(super) symbolic: bool,
    /// The size of an output's axis that only running tells.
    pub(super) length: Option<u64>,
}

impl Case {
    pub(super) fn new(operator: &str, opset: i64) -> Self {
        Self {
            operator: Operator::new(operator),
            opset,
            operands: vec![],
            outputs: 1,
            output: 0,
            symbolic: false,
            length: None,
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<AttributeValue>) -> Self {
        self.operator = self.operator.with(name, value);
        self
    }

    pub(super) fn varied(mut self, dims: &[i64], values: Vec<f64>) -> Self {
        self.operands.push(Operand::Varied(dims.to_vec(), values));
        self
    }

    /// A varied input with values between -2 and 2.
    pub(super) fn random(self, r: &Random, dims: &[i64]) -> Self {
        self.within(r, dims, -2.0, 2.0)
    }

    pub(super) fn within(self, r: &Random, dims: &[i64], low: f64, high: f64) -> Self {
        let values = r.spread(count(dims), low, high);
        self.varied(dims, values)
    }

    pub(super) fn fixed(mut self, dims: &[i64], values: Vec<f64>) -> Self {
        self.operands.push(Operand::Fixed(dims.to_vec(), values));
        self
    }

    pub(super) fn ints(self, values: &[i64]) -> Self {
        self.constant(Tensor::vector_i64(values))
    }

    pub(super) fn constant(mut self, tensor: Tensor) -> Self {
        self.operands.push(Operand::Constant(tensor));
        self
    }

    pub(super) fn fed(mut self, tensor: Tensor) -> Self {
        self.operands.push(Operand::Fed(tensor));
        self
    }

    pub(super) fn none(mut self) -> Self {
        self.operands.push(Operand::None);
        self
    }

    pub(super) fn outputs(mut self, count: usize, output: usize) -> Self {
        (self.outputs, self.output) = (count, output);
        self
    }

    /// The model, and the values of its inputs.
    pub(super) fn model(&self, dtype: DType) -> (Model, Vec<(String, Tensor)>) {
        let mut builder = GraphBuilder::new();
        builder.meta().name = Some("case".to_owned());
        let (mut ids, mut fed) = (Vec::new(), Vec::new());
        for (index, operand) in self.operands.iter().enumerate() {
            let name = format!("x{index}");
            let floats =
                |dims: &[i64], values: &[f64]| Tensor::from_f64(dtype, &unsigned(dims), values).unwrap();
            let mut input = |builder: &mut GraphBuilder, tensor: Tensor| {
                let mut ty = tensor_type(&tensor);
                if let (true, ValueType::Tensor(known)) = (self.symbolic, &mut ty)
                    && let Some(dim) = known.shape.as_mut().and_then(|shape| shape.first_mut())
                {
                    *dim = secateur::ir::Dim::symbol("N");
                }
                let order = fed.len() as u32;
                fed.push((name.clone(), tensor));
                builder.input(
                    Value::typed(name.as_str(), ty),
                    Input {
                        index: order,
                        ..Input::default()
                    },
                )
            };
            ids.push(match operand {
                Operand::None => None,
                Operand::Varied(dims, values) => Some(input(&mut builder, floats(dims, values))),
                Operand::Fed(tensor) => Some(input(&mut builder, tensor.clone())),
                Operand::Fixed(dims, values) => {
                    Some(builder.initializer(name.as_str(), floats(dims, values)))
                }
                Operand::Constant(tensor) => Some(builder.initializer(name.as_str(), tensor.clone())),
            });
        }
        let outputs = (0..self.outputs)
            .map(|index| Value::named(format!("y{index}")))
            .collect();
        let node = builder.node(self.operator.clone(), &ids, outputs);
        let output = GraphOutput {
            name: format!("y{}", self.output).into(),
            declared: None,
            ty: ValueType::Unknown,
        };
        builder.output(output, Some(secateur::ir::ValueId::new(node, self.output)));
        let model = Model {
            header: Box::new(proto::ModelProto {
                ir_version: Some(10),
                ..Default::default()
            }),
            opset_imports: vec![OpsetImport {
                domain: Some(Name::new("")),
                version: Some(self.opset),
            }]
            .into(),
            metadata: Vec::new(),
            graph: builder.finish(),
            functions: Vec::new(),
        };
        (model, fed)
    }

    /// Names of the varied inputs.
    pub(super) fn wanted(&self) -> Vec<String> {
        let varied = |(index, operand): (usize, &Operand)| {
            matches!(operand, Operand::Varied(..)).then(|| format!("x{index}"))
        };
        self.operands.iter().enumerate().filter_map(varied).collect()
    }

    pub(super) fn describe(&self) -> String {
        let operands: Vec<String> = self
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::None => "-".to_owned(),
                Operand::Varied(dims, _) => format!("{dims:?}"),
                Operand::Fixed(dims, _) => format!("fixed{dims:?}"),
                Operand::Constant(tensor) | Operand::Fed(tensor) => {
                    format!(
                        "{}{:?}={:?}",
                        tensor.dtype(),
                        tensor.dims(),
                        tensor.to_f64().map(|v| v.into_iter().take(8).collect::<Vec<_>>())
                    )
                }
            })
            .collect();
        let attributes: Vec<String> = self
            .operator
            .attributes()
            .iter()
            .map(|a| format!("{}={:?}", a.name, a.value))
            .collect();
        format!(
            "{} opset {} ({}) {{{}}} output {}",
            self.operator.op_type,
            self.opset,
            operands.join(", "),
            attributes.join(", "),
            self.output
        )
    }
}

pub(super) fn count(dims: &[i64]) -> usize {
    dims.iter().product::<i64>() as usize
}

pub(super) fn unsigned(dims: &[i64]) -> Vec<u64> {
    dims.iter().map(|dim| *dim as u64).collect()
}

pub(super) fn compile(model: &Model) -> Result<Box<dyn Session>, EngineError> {
    let lowered = secateur::lower::for_engine(model, &TractEngine).unwrap();
    TractEngine.compile(
        &lowered,
        &CompileOptions {
            optimise: true,
            ..CompileOptions::default()
        },
    )
}

pub(super) fn tensor<'v>(values: &'v RunValues, name: &str) -> &'v Tensor {
    match values.get(name) {
        Some(RunValue::Tensor(tensor)) => tensor,
        _ => panic!("no tensor {name} among {:?}", values.keys().collect::<Vec<_>>()),
    }
}

/// What a comparison came to.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// Compared in this element type.
    Compared(DType),
    /// The engine cannot run it in any element type.
    NotRun(String),
}

/// Writes the gradient model of a case and its inputs as ONNX files, for the comparison through other runtimes: to the folder
/// that `SECATEUR_GRADIENT_CASES` names, if it is set.
pub(super) fn write(case: &Case, name: &str, r: &Random) {
    let Some(folder) = std::env::var_os("SECATEUR_GRADIENT_CASES") else {
        return;
    };
    for dtype in [DType::F64, DType::F32] {
        let folder = std::path::PathBuf::from(&folder).join(name).join(dtype.name());
        std::fs::create_dir_all(&folder).unwrap();
        let (model, inputs) = case.model(dtype);
        let wrt = Wrt::Named(case.wanted());
        let gradient = gradients(&model, &Loss::InnerProduct, &wrt, &GradientOptions::default()).unwrap();
        let message = model_to_proto(&gradient, &ExternalFiles::default()).unwrap();
        std::fs::write(folder.join("model.onnx"), message.encode_to_vec()).unwrap();
        let targets = targets(case, &gradient, &inputs, dtype, r);
        for (name, tensor) in inputs.into_iter().chain([("targets".to_owned(), targets)]) {
            let message = tensor_to_proto(&tensor, Some(&name.as_str().into()), &ExternalFiles::default());
            std::fs::write(folder.join(format!("{name}.pb")), message.encode_to_vec()).unwrap();
        }
    }
}

/// Random weights for the elements of the output.
fn targets(case: &Case, gradient: &Model, inputs: &[(String, Tensor)], dtype: DType, r: &Random) -> Tensor {
    let shape = gradient
        .graph
        .find_value("targets")
        .and_then(|id| gradient.graph.ty(id).shape().cloned())
        .unwrap();
    let first = inputs
        .first()
        .and_then(|(_, tensor)| tensor.dims().first().copied());
    let batch = case.length.or(first).unwrap_or(1);
    let dims: Vec<u64> = shape
        .iter()
        .map(|dim| dim.fixed().map_or(batch, |size| size as u64))
        .collect();
    let total = dims.iter().product::<u64>() as usize;
    let targets: Vec<f64> = (0..total).map(|_| r.uniform(-1.0, 1.0)).collect();
    Tensor::from_f64(dtype, &dims, &targets).unwrap()
}

/// Compares the gradients of the case with finite differences: along random directions, which is the test
/// <Jv, u> = <v, Jᵀu>, and along single elements. In f64 where tract has the kernels, else in f32.
///
/// `single` says that tract's kernel computes in f32 whatever it is given.
pub(super) fn compare(case: &Case, r: &Random, single: bool) -> Outcome {
    let mut reason = String::new();
    for dtype in [DType::F64, DType::F32] {
        if single && dtype == DType::F64 {
            continue;
        }
        let (model, inputs) = case.model(dtype);
        let wrt = Wrt::Named(case.wanted());
        let options = GradientOptions::default();
        let gradient = match gradients(&model, &Loss::InnerProduct, &wrt, &options) {
            Ok(gradient) => gradient,
            Err(error) => panic!("{}: {error}", case.describe()),
        };
        match difference(case, &gradient, inputs, dtype, r) {
            Ok(()) => return Outcome::Compared(dtype),
            Err(error) => reason = error.to_string(),
        }
    }
    Outcome::NotRun(reason)
}

fn difference(
    case: &Case,
    gradient: &Model,
    inputs: Vec<(String, Tensor)>,
    dtype: DType,
    r: &Random,
) -> Result<(), EngineError> {
    let session = compile(gradient)?;
    let mut feeds: RunValues = inputs
        .iter()
        .map(|(name, tensor)| (name.clone(), RunValue::Tensor(tensor.clone())))
        .collect();
    feeds.insert(
        "targets".to_owned(),
        RunValue::Tensor(targets(case, gradient, &inputs, dtype, r)),
    );
    let base = session.run(&feeds)?;
    let (step, tolerance) = if dtype == DType::F64 {
        (1e-6, 2e-6)
    } else {
        (4e-3, 1e-2)
    };
    for (name, value) in &inputs {
        if !case.wanted().contains(name) {
            continue;
        }
        let slope = tensor(&base, &format!("grad/{name}"));
        assert_eq!(slope.dims(), value.dims(), "{}: grad/{name}", case.describe());
        let (slope, start) = (slope.to_f64().unwrap(), value.to_f64().unwrap());
        assert!(
            slope.iter().all(|v| v.is_finite()),
            "{}: grad/{name} {slope:?}",
            case.describe()
        );
        // How large a derivative can be, so that cancellation does not decide.
        let scale = slope.iter().map(|v| v * v).sum::<f64>().sqrt().max(0.1);
        for round in 0..4 {
            let mut direction = vec![0.0; start.len()];
            if round == 0 {
                direction.iter_mut().for_each(|v| *v = r.uniform(-1.0, 1.0));
            } else if let Some(one) = r
                .int(0, start.len() as i64 - 1)
                .try_into()
                .ok()
                .and_then(|i: usize| direction.get_mut(i))
            {
                *one = 1.0;
            }
            let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
            let loss_at = |way: f64| -> Result<f64, EngineError> {
                let moved: Vec<f64> = start
                    .iter()
                    .zip(&direction)
                    .map(|(x, d)| x + way * step * d / norm)
                    .collect();
                let moved = Tensor::from_f64(dtype, value.dims(), &moved).unwrap();
                let mut feeds = feeds.clone();
                feeds.insert(name.clone(), RunValue::Tensor(moved));
                Ok(tensor(&session.run(&feeds)?, "loss").single_f64().unwrap())
            };
            let numeric = (loss_at(1.0)? - loss_at(-1.0)?) / (2.0 * step);
            let exact = slope
                .iter()
                .zip(&direction)
                .map(|(g, d)| g * d / norm)
                .sum::<f64>();
            assert!(
                (numeric - exact).abs() <= tolerance * scale,
                "{}: d/d{name} is {exact}, by differences {numeric} ({dtype})",
                case.describe()
            );
        }
    }
    Ok(())
}

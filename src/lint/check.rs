//! What a check is, and what it finds.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::subject::Subject;
use super::targets::Target;

/// How much a finding matters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// It costs time, memory or accuracy, or surprises somebody later.
    Warning,
    /// It does not run, or what it computes is not what was meant.
    #[default]
    Error,
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where something was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct FindingPlace {
    /// The graph, where it is not the main graph: `function domain.name`, or the body by its node and attribute, as in `loop/body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// The node: its name, else that of its first output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The operator of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The value: an initializer, an input, an output, or what a node computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl FindingPlace {
    /// What a list of findings calls the place: the node, else the value, else the graph, else the model.
    pub fn name(&self) -> &str {
        let named = self.node.as_deref().or(self.value.as_deref());
        named.or(self.graph.as_deref()).unwrap_or("the model")
    }

    /// The place as a path: graph, node and value, as far as they are known.
    pub fn path(&self) -> String {
        let parts = [&self.graph, &self.node, &self.value];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() {
            "model".to_owned()
        } else {
            parts.join(" > ")
        }
    }
}

/// A step of a pipeline that mends a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fix {
    /// The pass.
    pub step: String,
    /// Its options.
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// The check; stable.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is there, with the figures that show it.
    pub message: String,
    /// Where.
    pub place: FindingPlace,
    /// The runtime that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What mends it.
    pub cure: String,
    /// The step that `--fix` runs for it; `null` where no step mends it without loss.
    pub fix: Option<Fix>,
}

/// What mends a finding.
#[derive(Clone, Copy, Debug)]
pub struct Cure {
    /// What to do, in a sentence.
    pub text: &'static str,
    /// The pass with its options (JSON) that does it and changes no more than rounding does.
    pub step: Option<(&'static str, &'static str)>,
}

impl Cure {
    /// A cure that a pass is.
    pub(super) const fn step(text: &'static str, pass: &'static str, options: &'static str) -> Self {
        Self {
            text,
            step: Some((pass, options)),
        }
    }

    /// A cure that is not a step, or loses something.
    pub(super) const fn advice(text: &'static str) -> Self {
        Self { text, step: None }
    }
}

/// A small model, and what the check finds in it.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// The model in ONNX's textual syntax.
    pub model: &'static str,
    /// The places of the findings, as [`FindingPlace::name`] calls them, in order; none where the check stays silent.
    pub finds: &'static [&'static str],
    /// The runtime that the model is checked for.
    pub target: Option<&'static str>,
    /// The largest message, where it is not the real one of 2 GiB.
    pub message_limit: Option<u64>,
    /// Initializers that lie in a file beside the model, each with its offset, and the bytes of that file.
    pub external: Option<(u64, &'static [(&'static str, u64)])>,
}

impl Example {
    /// A model in which the check finds something at these places.
    pub(super) const fn found(model: &'static str, finds: &'static [&'static str]) -> Self {
        Self {
            model,
            finds,
            target: None,
            message_limit: None,
            external: None,
        }
    }

    /// A model in which it finds nothing.
    pub(super) const fn silent(model: &'static str) -> Self {
        Self::found(model, &[])
    }

    pub(super) const fn on(mut self, target: &'static str) -> Self {
        self.target = Some(target);
        self
    }

    pub(super) const fn within(mut self, message_limit: u64) -> Self {
        self.message_limit = Some(message_limit);
        self
    }

    pub(super) const fn beside(mut self, bytes: u64, tensors: &'static [(&'static str, u64)]) -> Self {
        self.external = Some((bytes, tensors));
        self
    }
}

/// The header of an example's model: IR version 8 and this opset.
macro_rules! onnx {
    ($opset:literal, $($graph:tt)+) => {
        concat!("<ir_version: 8, opset_import: [\"\" : ", $opset, "]> ", $($graph)+)
    };
}
pub(super) use onnx;

/// Sixteen times the text of an element.
macro_rules! sixteen {
    ($v:literal) => {
        concat!($v, $v, $v, $v, $v, $v, $v, $v, $v, $v, $v, $v, $v, $v, $v, $v)
    };
}
pub(super) use sixteen;

/// 256 elements of a tensor's text: 255 times the first, with its comma, and the last.
macro_rules! elements256 {
    ($v:literal, $last:literal) => {
        concat!(
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            sixteen!($v),
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $v,
            $last
        )
    };
}
pub(super) use elements256;

/// A check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its stable name.
    pub code: &'static str,
    /// How much its findings matter.
    pub severity: Severity,
    /// What it finds, in a sentence.
    pub summary: &'static str,
    /// What it finds and why that matters, in Markdown.
    pub about: &'static str,
    /// What mends its findings, unless a finding says otherwise.
    pub cure: Cure,
    /// Models in which it finds something, and models in which it does not.
    pub examples: &'static [Example],
    /// Looks at a model.
    pub(super) run: fn(&Subject<'_>, &mut Found<'_>),
}

/// What one check has found so far.
pub(super) struct Found<'c> {
    check: &'c Check,
    /// The runtimes that were asked for; without any, those of [`super::targets::DEFAULT`], and nothing about them is more than a note.
    pub(super) targets: &'c [Target],
    pub(super) findings: Vec<Finding>,
}

impl<'c> Found<'c> {
    pub(super) fn new(check: &'c Check, targets: &'c [Target]) -> Self {
        Self {
            check,
            targets,
            findings: Vec::new(),
        }
    }

    /// A finding as the check has them; what differs is set on it.
    pub(super) fn add(&mut self, place: FindingPlace, message: impl Into<String>) -> &mut Finding {
        let finding = Finding {
            code: self.check.code.to_owned(),
            severity: self.check.severity,
            message: message.into(),
            place,
            target: None,
            cure: self.check.cure.text.to_owned(),
            fix: self.check.cure.step.map(|(step, options)| Fix {
                step: step.to_owned(),
                options: serde_json::from_str(options).unwrap_or_default(),
            }),
        };
        self.findings.push(finding);
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// A finding about a runtime: a note where nobody asked for it.
    pub(super) fn add_for(
        &mut self,
        target: &Target,
        severity: Severity,
        place: FindingPlace,
        message: impl Into<String>,
    ) -> &mut Finding {
        let asked = target.asked;
        let finding = self.add(place, message);
        finding.target = Some(target.to_string());
        finding.severity = if asked { severity } else { Severity::Note };
        finding
    }
}

impl Finding {
    /// The same mended by this step.
    pub(super) fn mended_by(&mut self, step: &str, options: serde_json::Value) -> &mut Self {
        let options = match options {
            serde_json::Value::Object(options) => options,
            _ => serde_json::Map::new(),
        };
        self.fix = Some(Fix {
            step: step.to_owned(),
            options,
        });
        self
    }
}

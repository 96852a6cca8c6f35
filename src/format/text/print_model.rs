//! Models and functions.

use super::omitted::omitted;
use super::printer::Printer;
use crate::proto::{FunctionProto, ModelProto, OperatorSetIdProto};

impl Printer<'_> {
    /// A model, with a comment that says what the syntax cannot.
    pub(super) fn model(&mut self, model: &ModelProto) {
        for omission in omitted(model) {
            self.display(format_args!("# not in this syntax: {omission}\n"));
        }
        let mut header = Header::default();
        header.number("ir_version", model.ir_version);
        header.present("opset_import", !model.opset_import.is_empty());
        header.text("producer_name", model.producer_name.as_deref());
        header.text("producer_version", model.producer_version.as_deref());
        header.text("domain", model.domain.as_deref());
        header.number("model_version", model.model_version);
        header.text("doc_string", model.doc_string.as_deref());
        header.present("metadata_props", !model.metadata_props.is_empty());
        self.header(&header, |printer, key| match key {
            "opset_import" => printer.opset_import(&model.opset_import),
            _ => printer.string_pairs(&model.metadata_props),
        });
        if let Some(graph) = &model.graph {
            self.graph(graph);
            self.line();
        }
        for function in &model.functions {
            self.line();
            self.function(function);
            self.line();
        }
    }

    pub(super) fn function(&mut self, function: &FunctionProto) {
        let mut header = Header::default();
        header.text("domain", function.domain.as_deref());
        header.text(
            "overload",
            function
                .overload
                .as_deref()
                .filter(|overload| !overload.is_empty()),
        );
        header.present("opset_import", !function.opset_import.is_empty());
        header.text("doc_string", function.doc_string.as_deref());
        self.header(&header, |printer, _| printer.opset_import(&function.opset_import));
        self.name(function.name());
        if !function.attribute.is_empty() || !function.attribute_proto.is_empty() {
            let names = function.attribute.iter().map(Err);
            let defaults = function.attribute_proto.iter().map(Ok);
            self.list(
                " <",
                ">",
                names.chain(defaults),
                |printer, attribute| match attribute {
                    Ok(attribute) => printer.attribute(attribute),
                    Err(name) => printer.name(name),
                },
            );
        }
        self.list(" (", ")", &function.input, |printer, name| {
            printer.untyped_name(name)
        });
        self.push(" => ");
        self.list("(", ")", &function.output, |printer, name| {
            printer.untyped_name(name)
        });
        if !function.value_info.is_empty() {
            self.list(" <", ">", &function.value_info, Printer::value_info);
        }
        self.push(" ");
        self.node_block(&function.node);
    }

    fn header(&mut self, header: &Header<'_>, mut other: impl FnMut(&mut Self, &str)) {
        if header.entries.is_empty() {
            return;
        }
        self.push("<");
        self.indented(|printer| {
            for (index, (key, value)) in header.entries.iter().enumerate() {
                printer.push(if index == 0 { "" } else { "," });
                printer.line();
                printer.push(key);
                printer.push(": ");
                match value {
                    Entry::Number(number) => printer.display(number),
                    Entry::Text(text) => printer.quoted(text),
                    Entry::Other => other(printer, key),
                }
            }
        });
        self.line();
        self.push(">");
        self.line();
    }

    fn opset_import(&mut self, imports: &[OperatorSetIdProto]) {
        self.list("[", "]", imports, |printer, import| {
            printer.quoted(import.domain());
            printer.push(": ");
            printer.display(import.version());
        });
    }
}

/// The entries of a header that are there.
#[derive(Default)]
struct Header<'a> {
    entries: Vec<(&'static str, Entry<'a>)>,
}

enum Entry<'a> {
    Number(i64),
    Text(&'a str),
    Other,
}

impl<'a> Header<'a> {
    fn number(&mut self, key: &'static str, value: Option<i64>) {
        self.entries
            .extend(value.map(|value| (key, Entry::Number(value))));
    }

    fn text(&mut self, key: &'static str, value: Option<&'a str>) {
        self.entries.extend(value.map(|value| (key, Entry::Text(value))));
    }

    fn present(&mut self, key: &'static str, present: bool) {
        self.entries.extend(present.then_some((key, Entry::Other)));
    }
}

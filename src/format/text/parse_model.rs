//! Models and functions: a header `<key: value, ...>` before a graph or a function's signature.

use super::cursor::Cursor;
use super::error::TextError;
use super::lexer::TokenKind;
use crate::proto::{FunctionProto, ModelProto, OperatorSetIdProto, ValueInfoProto};

impl Cursor<'_> {
    /// A model: header, main graph, functions.
    pub(crate) fn model(&mut self) -> Result<ModelProto, TextError> {
        let mut model = ModelProto::default();
        self.header(|cursor, key| {
            match key {
                "ir_version" => model.ir_version = Some(cursor.integer()?),
                "model_version" => model.model_version = Some(cursor.integer()?),
                "opset_import" => model.opset_import.extend(cursor.opset_import()?),
                "producer_name" => model.producer_name = Some(cursor.string()?),
                "producer_version" => model.producer_version = Some(cursor.string()?),
                "domain" => model.domain = Some(cursor.string()?),
                "doc_string" => model.doc_string = Some(cursor.string()?),
                "metadata_props" => model.metadata_props.extend(cursor.string_pairs()?),
                _ => return Ok(false),
            }
            Ok(true)
        }, "ir_version, opset_import, producer_name, producer_version, domain, model_version, doc_string or metadata_props")?;
        model.graph = Some(self.graph()?);
        while self.token().kind != TokenKind::End {
            model.functions.push(self.function()?);
        }
        Ok(model)
    }

    /// A function: header, name, attributes, inputs and outputs, body.
    pub(crate) fn function(&mut self) -> Result<FunctionProto, TextError> {
        let mut function = FunctionProto::default();
        self.header(
            |cursor, key| {
                match key {
                    "opset_import" => function.opset_import.extend(cursor.opset_import()?),
                    "domain" => function.domain = Some(cursor.string()?),
                    "overload" => function.overload = Some(cursor.string()?),
                    "doc_string" => function.doc_string = Some(cursor.string()?),
                    _ => return Ok(false),
                }
                Ok(true)
            },
            "domain, opset_import, overload or doc_string",
        )?;
        function.name = Some(self.name("a function name")?);
        if self.accept('<')? {
            loop {
                let name = self.name("an attribute name")?;
                if self.at(':') || self.at('=') {
                    function.attribute_proto.push(self.attribute(name)?);
                } else {
                    function.attribute.push(name);
                }
                if !self.separator('>')? {
                    break;
                }
            }
        }
        let inputs = self.value_infos('(', ')')?;
        self.expect_arrow()?;
        let outputs = self.value_infos('(', ')')?;
        function.input = inputs.iter().filter_map(|value| value.name.clone()).collect();
        function.output = outputs.iter().filter_map(|value| value.name.clone()).collect();
        let typed = |value: &ValueInfoProto| value.r#type.is_some();
        function.value_info = inputs.into_iter().chain(outputs).filter(typed).collect();
        if self.at('<') {
            function.value_info.extend(self.value_infos('<', '>')?);
        }
        function.node = self.node_block()?;
        Ok(function)
    }

    /// `<key: value, ...>`, if it stands here; `read` reads the value of a key and says whether it knows the key.
    fn header(
        &mut self,
        mut read: impl FnMut(&mut Self, &str) -> Result<bool, TextError>,
        keys: &str,
    ) -> Result<(), TextError> {
        if !self.accept('<')? {
            return Ok(());
        }
        loop {
            let TokenKind::Identifier(key) = self.token().kind else {
                return Err(self.expected(keys));
            };
            let unknown = self.expected(keys);
            self.advance()?;
            self.require(':')?;
            if !read(self, key)? {
                return Err(unknown);
            }
            if !self.separator('>')? {
                return Ok(());
            }
        }
    }

    /// `["domain": version, ...]`
    fn opset_import(&mut self) -> Result<Vec<OperatorSetIdProto>, TextError> {
        self.require('[')?;
        let mut imports = Vec::new();
        if self.accept(']')? {
            return Ok(imports);
        }
        loop {
            let domain = Some(self.string()?);
            self.require(':')?;
            let version = Some(self.integer()?);
            imports.push(OperatorSetIdProto { domain, version });
            if !self.separator(']')? {
                return Ok(imports);
            }
        }
    }
}

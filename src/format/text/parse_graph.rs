//! Nodes and graphs: `[label] y = domain.Op:overload <axis = 1> (a, b)` and `name (inputs) => (outputs) <constants> { nodes }`.

use super::cursor::Cursor;
use super::error::TextError;
use super::lexer::TokenKind;
use crate::proto::{GraphProto, NodeProto, TypeProto, type_proto};

/// An operator's name with its domain and overload.
#[derive(Debug)]
pub(crate) struct OperatorName {
    /// The domain, empty for the default one.
    pub(crate) domain: String,
    /// The operator type.
    pub(crate) op_type: String,
    /// The overload after a colon.
    pub(crate) overload: Option<String>,
}

impl Cursor<'_> {
    /// Names separated by commas. An empty name is `""` or nothing before a comma; a comma at the end adds nothing.
    pub(crate) fn names(&mut self) -> Result<Vec<String>, TextError> {
        let mut names = Vec::new();
        loop {
            match self.optional_name()? {
                Some(name) => names.push(name.into_owned()),
                None if self.at(',') => names.push(String::new()),
                None => return Ok(names),
            }
            if !self.accept(',')? {
                return Ok(names);
            }
        }
    }

    /// `domain.Op:overload`; a part that is not an identifier stands in quotes.
    pub(crate) fn operator_name(&mut self) -> Result<OperatorName, TextError> {
        let mut domain = String::new();
        let mut op_type = self
            .optional_name()?
            .map_or_else(String::new, std::borrow::Cow::into_owned);
        if op_type.is_empty() && !self.at('.') {
            return Err(self.expected("an operator name"));
        }
        while self.accept('.')? {
            if !domain.is_empty() {
                domain.push('.');
            }
            domain.push_str(&op_type);
            op_type = self.name("the rest of the operator's name")?;
        }
        let overload = if self.accept(':')? {
            Some(self.name("an overload name")?)
        } else {
            None
        };
        Ok(OperatorName {
            domain,
            op_type,
            overload,
        })
    }

    /// One node statement.
    pub(crate) fn node(&mut self) -> Result<NodeProto, TextError> {
        let mut node = NodeProto::default();
        if self.accept('[')? {
            node.name = Some(self.optional_name()?.unwrap_or_default().into_owned());
            self.require(']')?;
        }
        node.output = self.names()?;
        if !self.at('=') {
            return Err(self.expected(if node.output.is_empty() {
                "a node"
            } else {
                "`=` or `,`"
            }));
        }
        self.advance()?;
        let operator = self.operator_name()?;
        node.domain = Some(operator.domain);
        node.op_type = Some(operator.op_type);
        node.overload = operator.overload;
        node.attribute = self.attributes()?;
        self.require('(')?;
        node.input = self.names()?;
        if !self.accept(')')? {
            return Err(self.expected("`,`, `)` or a value name"));
        }
        if node.attribute.is_empty() {
            node.attribute = self.attributes()?;
        }
        Ok(node)
    }

    /// `{ nodes }`
    pub(crate) fn node_block(&mut self) -> Result<Vec<NodeProto>, TextError> {
        self.require('{')?;
        let mut nodes = Vec::new();
        loop {
            if self.accept('}')? {
                return Ok(nodes);
            }
            if self.token().kind == TokenKind::End {
                return Err(self.expected("a node or `}`"));
            }
            nodes.push(self.node()?);
        }
    }

    /// A graph.
    pub(crate) fn graph(&mut self) -> Result<GraphProto, TextError> {
        let mut graph = GraphProto {
            name: Some(self.name("a graph name")?),
            ..Default::default()
        };
        if self.accept('(')? && !self.accept(')')? {
            loop {
                let value = self.value_info()?;
                if self.accept('=')? {
                    self.constant(
                        &mut graph,
                        value.name.clone().unwrap_or_default(),
                        value.r#type.as_ref(),
                    )?;
                }
                graph.input.push(value);
                if !self.separator(')')? {
                    break;
                }
            }
        }
        self.expect_arrow()?;
        graph.output = self.value_infos('(', ')')?;
        if self.accept('<')? && !self.accept('>')? {
            loop {
                let value = self.value_info()?;
                if self.accept('=')? {
                    self.constant(&mut graph, value.name.unwrap_or_default(), value.r#type.as_ref())?;
                } else {
                    graph.value_info.push(value);
                }
                if !self.separator('>')? {
                    break;
                }
            }
        }
        graph.node = self.node_block()?;
        Ok(graph)
    }

    fn constant(
        &mut self,
        graph: &mut GraphProto,
        name: String,
        r#type: Option<&TypeProto>,
    ) -> Result<(), TextError> {
        let Some(r#type) = r#type else {
            return Err(self.expected(format!(
                "a type before the name of the constant {name:?}; its value"
            )));
        };
        if matches!(r#type.value, Some(type_proto::Value::SparseTensorType(_))) {
            let sparse = self.sparse_tensor(name, r#type)?;
            graph.sparse_initializer.push(sparse);
        } else {
            let tensor = self.tensor(name, r#type)?;
            graph.initializer.push(tensor);
        }
        Ok(())
    }
}

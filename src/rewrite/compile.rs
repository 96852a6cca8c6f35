//! One alternative of a rule: names resolved, operators looked up, laws checked.

use std::collections::BTreeMap;

use crate::ops;
use crate::schema::nearest;

use super::canonical;
use super::cost::Cost;
use super::error::{Place, RuleError};
use super::helper::{self, Kind};
use super::load::Source;
use super::rule::{Instance, Operand, Pattern, PatternNode, Rule};
use super::siblings;
use super::syntax::{Binary, Expr, OperatorCall, Span, Spanned, Statement};

/// What one alternative of a rule is compiled from.
pub(crate) struct Unit<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) alternative: usize,
    pub(crate) operators: Vec<(String, String)>,
    pub(crate) operator_places: &'a [Place],
    pub(crate) match_source: Source<'a>,
    pub(crate) replace_source: Source<'a>,
    pub(crate) clause_sources: &'a [Source<'a>],
}

#[derive(Default)]
struct Names {
    list: Vec<String>,
    /// Pattern node and output that a name stands for.
    produced: BTreeMap<String, (usize, usize)>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        match self.list.iter().position(|known| known == name) {
            Some(at) => at,
            None => {
                self.list.push(name.to_owned());
                self.list.len() - 1
            }
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.list.iter().any(|known| known == name)
    }
}

impl Unit<'_> {
    pub(crate) fn compile(
        &self,
        pattern: &[Statement],
        clauses: &[(String, Spanned)],
        replace: &[Statement],
    ) -> Result<Instance, RuleError> {
        let pattern: Vec<Statement> = pattern.iter().map(|s| self.with_operators(s)).collect();
        let replace: Vec<Statement> = replace.iter().map(|s| self.with_operators(s)).collect();
        let mut names = Names::default();
        let mut nodes = Vec::new();
        for statement in &pattern {
            self.pattern_statement(statement, &mut names, &mut nodes)?;
        }
        let Some(last) = pattern.last() else {
            return Err(self.misuse(&self.match_source, Span::default(), "an empty pattern"));
        };
        let siblings = siblings::find(&nodes, &names.list, &constants_of(clauses))
            .map_err(|error| self.misuse(&self.match_source, last.value.span, error.to_string()))?;
        for ((_, clause), source) in clauses.iter().zip(self.clause_sources) {
            self.check_bound(clause, &names, &[], source)?;
            self.check_expression(clause, source, false)?;
        }
        let results = self.check_replace(&replace, &pattern, &names)?;
        let instance = Instance {
            alternative: self.alternative,
            operators: self.operators.clone(),
            names: names.list,
            pattern: Pattern { nodes, siblings },
            source: pattern,
            clauses: clauses.to_vec(),
            replace,
            results,
        };
        if self.rule.family != "lowering" {
            self.check_cost(&instance)?;
        }
        Ok(instance)
    }

    fn with_operators(&self, statement: &Statement) -> Statement {
        fn swap(expression: &mut Spanned, operators: &[(String, String)]) {
            match &mut expression.expr {
                Expr::Operator(call) => {
                    if let Some((_, operator)) =
                        operators.iter().find(|(variable, _)| *variable == call.op_type)
                    {
                        call.op_type = operator.clone();
                    }
                    call.attributes
                        .iter_mut()
                        .for_each(|(_, value)| swap(value, operators));
                    call.operands
                        .iter_mut()
                        .for_each(|operand| swap(operand, operators));
                }
                Expr::List(items) | Expr::Helper { arguments: items, .. } => {
                    items.iter_mut().for_each(|item| swap(item, operators));
                }
                Expr::Unary(_, inner) => swap(inner, operators),
                Expr::Binary(_, left, right) => {
                    swap(left, operators);
                    swap(right, operators);
                }
                _ => {}
            }
        }
        let mut statement = statement.clone();
        swap(&mut statement.value, &self.operators);
        statement
    }

    fn misuse(&self, source: &Source<'_>, span: Span, reason: impl Into<String>) -> RuleError {
        RuleError::Misuse {
            place: source.place(span),
            reason: reason.into(),
        }
    }

    fn pattern_statement(
        &self,
        statement: &Statement,
        names: &mut Names,
        nodes: &mut Vec<PatternNode>,
    ) -> Result<(), RuleError> {
        let Expr::Operator(call) = &statement.value.expr else {
            return Err(self.misuse(
                &self.match_source,
                statement.value.span,
                "a pattern consists of operators",
            ));
        };
        let at = self.pattern_call(call, names, nodes)?;
        let mut outputs = Vec::new();
        for (index, (name, span)) in statement.outputs.iter().enumerate() {
            if name == "_" {
                outputs.push(None);
                continue;
            }
            if names.knows(name) {
                return Err(self.misuse(
                    &self.match_source,
                    *span,
                    format!("{name} is defined twice or used before"),
                ));
            }
            names.produced.insert(name.clone(), (at, index));
            outputs.push(Some(names.number(name)));
        }
        if let Some(node) = nodes.get_mut(at) {
            node.outputs = outputs;
        }
        Ok(())
    }

    fn pattern_call(
        &self,
        call: &OperatorCall,
        names: &mut Names,
        nodes: &mut Vec<PatternNode>,
    ) -> Result<usize, RuleError> {
        let source = &self.match_source;
        self.check_operator(call, source)?;
        let mut operands = Vec::new();
        for operand in &call.operands {
            operands.push(match &operand.expr {
                Expr::Value { name, .. } if name == "_" => Operand::Any,
                Expr::Value { name, optional } => match names.produced.get(name) {
                    Some((node, output)) => Operand::Node {
                        node: *node,
                        output: *output,
                    },
                    None => Operand::Value {
                        name: names.number(name),
                        optional: *optional,
                    },
                },
                Expr::Splat(name) => Operand::Splat(names.number(&format!("*{name}"))),
                Expr::Operator(inner) => {
                    let node = self.pattern_call(inner, names, nodes)?;
                    Operand::Node { node, output: 0 }
                }
                Expr::Int(_) | Expr::Float(_) | Expr::Bool(_) | Expr::Helper { .. } | Expr::Unary(..) => {
                    self.check_bound(operand, &Names::default(), &[], source)?;
                    self.check_expression(operand, source, false)?;
                    Operand::Number(operand.clone())
                }
                _ => {
                    return Err(self.misuse(
                        source,
                        operand.span,
                        "a pattern's operand is a value, an operator, a number or *values",
                    ));
                }
            });
        }
        if operands
            .iter()
            .filter(|operand| matches!(operand, Operand::Splat(_)))
            .count()
            > 2
        {
            return Err(self.misuse(
                source,
                call.name_span,
                "at most two *values in one list of operands",
            ));
        }
        for (_, value) in &call.attributes {
            if let Expr::Parameter(name) = &value.expr {
                names.number(&format!("@{name}"));
            } else {
                self.check_bound(value, names, &[], source)?;
                self.check_expression(value, source, false)?;
            }
        }
        let rest = call
            .rest
            .as_ref()
            .map(|(name, _)| names.number(&format!("*{name}")));
        nodes.push(PatternNode {
            domain: call.domain.clone(),
            op_type: call.op_type.clone(),
            attributes: call.attributes.clone(),
            rest,
            operands,
            outputs: vec![None],
        });
        Ok(nodes.len() - 1)
    }

    fn check_operator(&self, call: &OperatorCall, source: &Source<'_>) -> Result<(), RuleError> {
        let schemas = ops::schemas(&call.domain, &call.op_type);
        let place = match self
            .operators
            .iter()
            .position(|(_, operator)| *operator == call.op_type)
        {
            // An operator of `for` is blamed where it is listed.
            Some(_) => self
                .rule
                .operators
                .values()
                .flatten()
                .position(|operator| *operator == call.op_type)
                .and_then(|at| self.operator_places.get(at).cloned())
                .unwrap_or_else(|| source.place(call.name_span)),
            None => source.place(call.name_span),
        };
        if schemas.is_empty() {
            if !call.domain.is_empty() && call.domain != "ai.onnx.ml" {
                // Operators of other domains have no table.
                return Ok(());
            }
            return Err(RuleError::Unknown {
                place,
                kind: "operator",
                name: call.op_type.clone(),
                nearest: nearest(&call.op_type, ops::operator_names()).map(str::to_owned),
            });
        }
        let first = self.rule.opset.0;
        if call.domain.is_empty() && ops::schema("", &call.op_type, first).is_none() {
            let since = schemas.first().map_or(0, |schema| schema.since);
            return Err(RuleError::Opset {
                place,
                reason: format!(
                    "{} exists from opset {since} on, the rule holds from {first} on",
                    call.op_type
                ),
            });
        }
        let known = |name: &str| {
            canonical::find(&call.domain, &call.op_type, name).is_some()
                || schemas.iter().any(|schema| schema.attribute(name).is_some())
        };
        for (name, value) in &call.attributes {
            if !known(name) {
                let names = schemas
                    .iter()
                    .flat_map(|schema| schema.attributes.iter().map(|a| a.name));
                let rows = canonical::TABLE
                    .iter()
                    .filter(|row| row.op_type == call.op_type)
                    .map(|row| row.name);
                return Err(RuleError::Unknown {
                    place: source.place(value.span),
                    kind: "attribute",
                    name: format!("{} of {}", name, call.op_type),
                    nearest: nearest(name, names.chain(rows)).map(str::to_owned),
                });
            }
        }
        let most = schemas
            .iter()
            .map(|schema| schema.inputs_range.1)
            .max()
            .unwrap_or(0);
        if call.operands.len() > most {
            return Err(self.misuse(
                source,
                call.name_span,
                format!("{} reads at most {most} values", call.op_type),
            ));
        }
        Ok(())
    }

    fn check_bound(
        &self,
        expression: &Spanned,
        names: &Names,
        defined: &[String],
        source: &Source<'_>,
    ) -> Result<(), RuleError> {
        let mut error = None;
        let missing = |name: &str, span: Span| RuleError::Unbound {
            place: source.place(span),
            name: name.to_owned(),
        };
        expression.walk(&mut |part| {
            let found = match &part.expr {
                Expr::Value { name, .. } => {
                    let known =
                        names.knows(name) || names.knows(&format!("*{name}")) || defined.contains(name);
                    (!known).then(|| missing(name, part.span))
                }
                Expr::Parameter(name) => {
                    (!names.knows(&format!("@{name}"))).then(|| missing(&format!("@{name}"), part.span))
                }
                Expr::Splat(name) => {
                    (!names.knows(&format!("*{name}"))).then(|| missing(&format!("*{name}"), part.span))
                }
                Expr::Operator(call) => call.rest.as_ref().and_then(|(name, span)| {
                    (!names.knows(&format!("*{name}"))).then(|| missing(&format!("*{name}"), *span))
                }),
                _ => None,
            };
            if error.is_none() {
                error = found;
            }
        });
        error.map_or(Ok(()), Err)
    }

    /// Helpers exist and get arguments of the right number and kind; operators stand only where `operators` allows.
    fn check_expression(
        &self,
        expression: &Spanned,
        source: &Source<'_>,
        operators: bool,
    ) -> Result<(), RuleError> {
        let mut error = None;
        expression.walk(&mut |part| {
            let found = match &part.expr {
                Expr::Helper { name, arguments } => {
                    self.check_helper(name, arguments, part.span, source).err()
                }
                Expr::Operator(_) if !operators => Some(self.misuse(
                    source,
                    part.span,
                    "an operator cannot stand in a clause or a parameter",
                )),
                Expr::Operator(call) => self.check_operator(call, source).err(),
                Expr::Value { optional: true, name } => {
                    Some(self.misuse(source, part.span, format!("`{name}?` is for patterns")))
                }
                _ => None,
            };
            if error.is_none() {
                error = found;
            }
        });
        error.map_or(Ok(()), Err)
    }

    fn check_helper(
        &self,
        name: &str,
        arguments: &[Spanned],
        span: Span,
        source: &Source<'_>,
    ) -> Result<(), RuleError> {
        let Some(helper) = helper::find(name) else {
            return Err(RuleError::Unknown {
                place: source.place(span),
                kind: "predicate or helper",
                name: name.to_owned(),
                nearest: nearest(name, helper::all().map(|helper| helper.name)).map(str::to_owned),
            });
        };
        if !helper.takes(arguments.len()) {
            return Err(self.misuse(
                source,
                span,
                format!("{} got {} arguments", helper.signature(), arguments.len()),
            ));
        }
        for (index, argument) in arguments.iter().enumerate() {
            let wanted = helper.argument(index).unwrap_or(Kind::Any);
            let found = static_kind(argument);
            let fits = match (wanted, found) {
                (Kind::Any, _) | (_, Kind::Any) => true,
                (Kind::Constant, Kind::Value) | (Kind::Value, Kind::Constant) => true,
                // A bare name may be that of a list of values.
                (Kind::Values, Kind::Value) => true,
                (wanted, found) => wanted == found,
            };
            if !fits {
                let reason = format!(
                    "argument {} of {} is {found:?}, not {wanted:?}",
                    index + 1,
                    helper.signature()
                );
                return Err(self.misuse(source, argument.span, reason.to_lowercase()));
            }
        }
        Ok(())
    }

    fn check_replace(
        &self,
        replace: &[Statement],
        pattern: &[Statement],
        names: &Names,
    ) -> Result<Vec<String>, RuleError> {
        let source = &self.replace_source;
        let mut defined: Vec<String> = Vec::new();
        for statement in replace {
            self.check_bound(&statement.value, names, &defined, source)?;
            self.check_expression(&statement.value, source, true)?;
            if statement.outputs.len() > 1 && !matches!(statement.value.expr, Expr::Operator(_)) {
                return Err(self.misuse(source, statement.value.span, "several results need an operator"));
            }
            for (name, span) in &statement.outputs {
                if defined.contains(name) || names.knows(name) && !names.produced.contains_key(name) {
                    return Err(self.misuse(source, *span, format!("{name} is defined twice")));
                }
                defined.push(name.clone());
            }
        }
        let mut read: Vec<&str> = Vec::new();
        for statement in pattern {
            statement.value.walk(&mut |part| {
                if let Expr::Value { name, .. } = &part.expr {
                    read.push(name);
                }
            });
        }
        let place = || source.place(replace.last().map_or(Span::default(), |last| last.value.span));
        for (name, _) in pattern.iter().flat_map(|statement| &statement.outputs) {
            if name != "_" && !read.contains(&name.as_str()) && !defined.contains(name) {
                return Err(RuleError::Undefined {
                    place: place(),
                    name: name.clone(),
                });
            }
        }
        Ok(defined
            .into_iter()
            .filter(|name| names.produced.contains_key(name))
            .collect())
    }

    fn check_cost(&self, instance: &Instance) -> Result<(), RuleError> {
        let constants = constants_of(&instance.clauses);
        let name = |index: usize| instance.names.get(index).map_or("", String::as_str);
        let mut before = Cost::default();
        for node in &instance.pattern.nodes {
            let reads = node.operands.iter().filter(|operand| match operand {
                Operand::Value { name: index, .. } => {
                    !constants.iter().any(|constant| constant == name(*index))
                }
                Operand::Number(_) => false,
                _ => true,
            });
            before.add(&node.op_type, reads.count());
        }
        let mut after = Cost::default();
        let mut folded: Vec<String> = constants;
        for statement in &instance.replace {
            let constant = add_cost(&statement.value, &folded, &mut after);
            if constant {
                folded.extend(statement.outputs.iter().map(|(name, _)| name.clone()));
            }
        }
        if after < before {
            return Ok(());
        }
        let span = instance
            .replace
            .last()
            .map_or(Span::default(), |last| last.value.span);
        Err(RuleError::Cost {
            place: self.replace_source.place(span),
            before: before.to_string(),
            after: after.to_string(),
        })
    }
}

/// Values that a clause of their own declares constant.
pub(crate) fn constants_of(clauses: &[(String, Spanned)]) -> Vec<String> {
    let mut found = Vec::new();
    for (_, clause) in clauses {
        if let Expr::Helper { name, arguments } = &clause.expr
            && name == "constant"
        {
            for argument in arguments {
                if let Expr::Value { name, .. } = &argument.expr {
                    found.push(name.clone());
                }
            }
        }
    }
    found
}

/// Adds the cost of an expression of the replacement; answers whether it folds to a constant.
fn add_cost(expression: &Spanned, constants: &[String], cost: &mut Cost) -> bool {
    match &expression.expr {
        Expr::Operator(call) => {
            let mut reads = 0;
            let mut constant = !call.operands.is_empty();
            for operand in &call.operands {
                let folds = add_cost(operand, constants, cost);
                constant &= folds;
                reads += usize::from(!folds);
            }
            if !constant {
                cost.add(&call.op_type, reads);
            }
            constant
        }
        Expr::Value { name, .. } => constants.contains(name),
        Expr::Splat(_) => false,
        Expr::Binary(Binary::Or, left, right) => {
            let (left, right) = (add_cost(left, constants, cost), add_cost(right, constants, cost));
            left && right
        }
        Expr::Helper { name, .. } => !matches!(
            helper::find(name).map(|h| h.result),
            Some(Kind::Value | Kind::Values)
        ),
        _ => true,
    }
}

fn static_kind(expression: &Spanned) -> Kind {
    match &expression.expr {
        Expr::Int(_) | Expr::Float(_) => Kind::Number,
        Expr::Bool(_) => Kind::Truth,
        Expr::Text(_) => Kind::Text,
        Expr::List(_) => Kind::List,
        Expr::Value { .. } => Kind::Value,
        Expr::Splat(_) => Kind::Values,
        Expr::Helper { name, .. } => helper::find(name).map_or(Kind::Any, |helper| helper.result),
        _ => Kind::Any,
    }
}

//! Rule files to rules: YAML, texts, and everything that can be refused before a model is seen.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_yaml::Spanned as Located;

use super::safety::Safety;

use super::compile;
use super::error::{Place, RuleError};
use super::rule::{Example, Examples, Rule, Unread};
use super::syntax::{self, Span, Statement};

/// The newest opset that a range may name.
const NEWEST: i64 = 1000;
/// Combinations of alternatives and operators that one file may stand for.
const MOST_INSTANCES: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    rule: Located<String>,
    summary: String,
    safety: Safety,
    opset: Located<String>,
    #[serde(default)]
    priority: i64,
    #[serde(default, rename = "for")]
    operators: IndexMap<String, Vec<Located<String>>>,
    #[serde(rename = "match")]
    matches: Located<Texts>,
    #[serde(default, rename = "where")]
    clauses: Vec<Located<String>>,
    replace: Located<String>,
    #[serde(default)]
    examples: RawExamples,
}

type RawExamples = Vec<Located<IndexMap<String, Json>>>;

/// The end of a rule file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnd {
    examples: RawExamples,
}

/// One text or several.
enum Texts {
    One(String),
    Many(Vec<Located<String>>),
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Texts;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(Texts::Many(texts))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A rule text and where it stands in its file.
pub(crate) struct Source<'a> {
    file: &'a Arc<str>,
    /// Line and column of the first character, and the columns before every further line.
    line: usize,
    column: usize,
    indent: usize,
    text: &'a str,
}

impl Source<'_> {
    /// The place of a range of the text.
    pub(crate) fn place(&self, span: Span) -> Place {
        let before = self
            .text
            .get(..span.start.min(self.text.len()))
            .unwrap_or(self.text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let base = if line == 0 { self.column } else { self.indent + 1 };
        Place {
            file: self.file.clone(),
            line: self.line + line,
            column: base + column,
        }
    }
}

/// A rule file: its name and its lines.
struct File<'a> {
    name: Arc<str>,
    lines: Vec<&'a str>,
}

impl File<'_> {
    fn place(&self, located: serde_yaml::Location) -> Place {
        Place {
            file: self.name.clone(),
            line: located.line() as usize,
            column: located.column() as usize,
        }
    }

    fn source<'s>(&'s self, located: serde_yaml::Location, text: &'s str) -> Source<'s> {
        locate(&self.name, &self.lines, located, text)
    }

    fn misuse(&self, located: serde_yaml::Location, reason: impl Into<String>) -> RuleError {
        RuleError::Misuse {
            place: self.place(located),
            reason: reason.into(),
        }
    }

    /// The statements of a text.
    fn statements(&self, text: &str, located: serde_yaml::Location) -> Result<Vec<Statement>, RuleError> {
        syntax::statements(text).map_err(|error| RuleError::Syntax {
            place: self.source(located, text).place(error.span),
            reason: error.message,
        })
    }

    fn parsed<T: de::DeserializeOwned>(&self, content: &str) -> Result<T, RuleError> {
        serde_yaml::from_str(content).map_err(|error| {
            let place = error
                .location()
                .map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
            RuleError::Yaml {
                place: Place {
                    file: self.name.clone(),
                    line: place.0,
                    column: place.1,
                },
                reason: error.without_snippet().to_string(),
            }
        })
    }

    fn examples(&self, raw: RawExamples) -> Vec<Example> {
        let example = |example: Located<IndexMap<String, Json>>| Example {
            fields: example.value,
            place: self.place(example.referenced),
        };
        raw.into_iter().map(example).collect()
    }

    /// What can be refused before any text of the rule is read. Answers the range of opsets.
    fn checked(&self, raw: &Raw, unread: bool) -> Result<(i64, Option<i64>), RuleError> {
        let opset = opset_range(&raw.opset.value).ok_or_else(|| RuleError::Opset {
            place: self.place(raw.opset.referenced),
            reason: format!(
                "`{}` is no range of opsets; write `9..` or `9..17`",
                raw.opset.value
            ),
        })?;
        let name = &raw.rule.value;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(fits) {
            let reason = "a rule's name has small letters, digits and hyphens";
            return Err(self.misuse(raw.rule.referenced, reason));
        }
        if raw.examples.is_empty() && !unread {
            return Err(self.misuse(raw.rule.referenced, "a rule without examples proves nothing"));
        }
        Ok(opset)
    }
}

impl Rule {
    /// The cases that prove the rule.
    pub fn examples(&self) -> &[Example] {
        self.examples.found.get_or_init(|| {
            let unread = self.examples.unread.as_ref();
            // That the embedded ones can be read is tested.
            unread.map_or_else(Vec::new, |unread| {
                examples(&self.file, unread).unwrap_or_default()
            })
        })
    }
}

/// The examples that were left unread.
fn examples(file: &Arc<str>, unread: &Unread) -> Result<Vec<Example>, RuleError> {
    let file = File {
        name: file.clone(),
        lines: Vec::new(),
    };
    let text = "\n".repeat(unread.before) + unread.text;
    let end: RawEnd = file.parsed(&text)?;
    Ok(file.examples(end.examples))
}

/// Reads one rule file.
pub(crate) fn rule(file: &str, family: &str, content: &str) -> Result<Rule, RuleError> {
    read(file, family, content, None)
}

/// Reads one rule file of the binary without its examples.
pub(super) fn embedded(file: &str, family: &str, content: &'static str) -> Result<Rule, RuleError> {
    const EXAMPLES: &str = "\nexamples:\n";
    match content.find(EXAMPLES) {
        None => rule(file, family, content),
        Some(at) => {
            let (head, text) = content.split_at(at + 1);
            let before = head.matches('\n').count();
            read(
                file,
                family,
                head,
                Some(Unread { text, before }),
            )
        }
    }
}

fn read(file: &str, family: &str, content: &str, unread: Option<Unread>) -> Result<Rule, RuleError> {
    let file = File {
        name: Arc::from(file),
        lines: content.lines().collect(),
    };
    let raw: Raw = file.parsed(content)?;
    let opset = file.checked(&raw, unread.is_some())?;
    let inner: Vec<(String, serde_yaml::Location)> = match raw.matches.value {
        Texts::One(text) => vec![(text, raw.matches.referenced)],
        Texts::Many(texts) => texts
            .into_iter()
            .map(|text| (text.value, text.referenced))
            .collect(),
    };
    let mut rule = Rule {
        name: raw.rule.value,
        family: family.to_owned(),
        file: file.name.clone(),
        summary: raw.summary,
        safety: raw.safety,
        opset,
        priority: raw.priority,
        matches: inner.iter().map(|(text, _)| text.clone()).collect(),
        clauses: raw.clauses.iter().map(|clause| clause.value.clone()).collect(),
        replace: raw.replace.value.clone(),
        operators: raw
            .operators
            .iter()
            .map(|(k, v)| (k.clone(), v.iter().map(|o| o.value.clone()).collect()))
            .collect(),
        examples: unread.map_or_else(|| Examples::read(file.examples(raw.examples)), Examples::unread),
        instances: Vec::new(),
    };
    let place_operators: Vec<Place> = raw
        .operators
        .values()
        .flat_map(|list| list.iter().map(|operator| file.place(operator.referenced)))
        .collect();
    let replace = file.statements(&rule.replace, raw.replace.referenced)?;
    let mut clauses = Vec::new();
    for clause in &raw.clauses {
        let source = file.source(clause.referenced, &clause.value);
        let parsed = syntax::expression(&clause.value).map_err(|error| RuleError::Syntax {
            place: source.place(error.span),
            reason: error.message,
        })?;
        clauses.push((clause.value.clone(), parsed));
    }
    let clause_sources: Vec<Source<'_>> = raw
        .clauses
        .iter()
        .map(|clause| file.source(clause.referenced, &clause.value))
        .collect();
    let choices = combinations(&rule.operators);
    if choices.len() * inner.len() > MOST_INSTANCES {
        let reason = format!("more than {MOST_INSTANCES} combinations of operators and alternatives");
        return Err(file.misuse(raw.rule.referenced, reason));
    }
    for (alternative, (text, location)) in inner.iter().enumerate() {
        let pattern = file.statements(text, *location)?;
        for operators in &choices {
            let unit = compile::Unit {
                rule: &rule,
                alternative,
                operators: operators.clone(),
                operator_places: &place_operators,
                match_source: file.source(*location, text),
                replace_source: file.source(raw.replace.referenced, &raw.replace.value),
                clause_sources: &clause_sources,
            };
            let instance = unit.compile(&pattern, &clauses, &replace)?;
            rule.instances.push(instance);
        }
    }
    Ok(rule)
}

fn combinations(operators: &IndexMap<String, Vec<String>>) -> Vec<Vec<(String, String)>> {
    operators
        .iter()
        .fold(vec![Vec::new()], |found, (variable, list)| {
            found
                .iter()
                .flat_map(|chosen: &Vec<(String, String)>| {
                    list.iter().map(move |operator| {
                        let mut chosen = chosen.clone();
                        chosen.push((variable.clone(), operator.clone()));
                        chosen
                    })
                })
                .collect()
        })
}

fn opset_range(text: &str) -> Option<(i64, Option<i64>)> {
    let (first, last) = text.split_once("..")?;
    let first: i64 = first.trim().parse().ok()?;
    let last = match last.trim() {
        "" => None,
        last => Some(last.parse::<i64>().ok()?),
    };
    let inside = |version: i64| (1..=NEWEST).contains(&version);
    (inside(first) && last.is_none_or(|last| inside(last) && last >= first)).then_some((first, last))
}

/// Where the characters of a scalar stand: at the location itself, or on the lines below a block indicator.
fn locate<'a>(
    file: &'a Arc<str>,
    lines: &[&str],
    location: serde_yaml::Location,
    text: &'a str,
) -> Source<'a> {
    let (line, column) = (location.line() as usize, location.column() as usize);
    let here = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
    let first = here.chars().nth(column.saturating_sub(1));
    match first {
        Some('|' | '>') => {
            let next = (line..)
                .find(|at| lines.get(*at).is_none_or(|l| !l.trim().is_empty()))
                .unwrap_or(line);
            let indent = lines
                .get(next)
                .map_or(0, |l| l.chars().take_while(|c| *c == ' ').count());
            Source {
                file,
                line: line + 1,
                column: indent + 1,
                indent,
                text,
            }
        }
        Some('"' | '\'') => Source {
            file,
            line,
            column: column + 1,
            indent: 0,
            text,
        },
        _ => Source {
            file,
            line,
            column,
            indent: column.saturating_sub(1),
            text,
        },
    }
}

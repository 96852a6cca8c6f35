//! Every native pass, one line each: how pipelines build one from its options, and what `explain` and the book say about it.

use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserializer;
use serde::de::DeserializeOwned;

use super::{Needs, Pass, Safety};

/// Lists the passes. A pass is a type with options that all have defaults.
macro_rules! passes {
    ($($pass:ty),* $(,)?) => {
        /// Every pass, by name. Schemas are made once.
        pub fn entries() -> &'static [Entry] {
            static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
                let mut entries = vec![$(Entry::of::<$pass>()),*];
                entries.sort_by_key(|entry| entry.name);
                entries
            });
            &ENTRIES
        }

        /// The pass `name` with these options; `None` if there is no such pass.
        pub fn build<'de, D: Deserializer<'de>>(name: &str, options: D) -> Result<Option<Box<dyn Pass>>, D::Error> {
            $(
                if name == <$pass>::default().about().name {
                    let pass: $pass = serde::Deserialize::deserialize(options)?;
                    return Ok(Some(Box::new(pass)));
                }
            )*
            Ok(None)
        }

        /// The pass `name` with its default options.
        pub fn default(name: &str) -> Option<Box<dyn Pass>> {
            $(
                if name == <$pass>::default().about().name {
                    return Some(Box::new(<$pass>::default()));
                }
            )*
            None
        }
    };
}

passes! {
    super::Awq,
    super::Bake,
    super::Bind,
    super::BindDefaults,
    super::Chain,
    super::CleanNames,
    super::Cluster,
    super::Compress,
    super::ConvertFloat,
    super::ConvertOpset,
    super::CorrectBias,
    super::DeduplicateInitializers,
    super::Deepen,
    super::DropOutputs,
    super::EliminateCommonSubexpressions,
    super::EliminateDeadCode,
    super::Equalize,
    super::Factorize,
    super::Finetune,
    super::Extract,
    super::FoldConstants,
    super::InlineFunctions,
    super::MergeLora,
    super::PruneBlocks,
    super::PruneChannels,
    super::PruneWeights,
    super::Quantize,
    super::QuantizeDynamic,
    super::QuantizeWeights,
    super::Rename,
    super::SearchPrecision,
    super::Simplify,
    super::SmoothQuant,
    super::TransferFeatures,
    super::TransferMerge,
    super::TransferParameters,
    super::TransferStructure,
    super::Widen,
}

/// What there is to say about a pass.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name in pipelines and on the command line.
    pub name: &'static str,
    /// What it preserves with default options.
    pub safety: Safety,
    /// What it needs beside the model, with default options.
    pub needs: Needs,
    /// JSON Schema of its options.
    pub schema: Schema,
}

impl Entry {
    fn of<P: Pass + Default + JsonSchema + DeserializeOwned>() -> Self {
        let pass = P::default();
        Self {
            name: pass.about().name,
            safety: pass.about().safety,
            needs: pass.about().needs,
            schema: schema_for!(P),
        }
    }

    /// The documentation, in Markdown.
    pub fn documentation(&self) -> &str {
        self.schema
            .get("description")
            .and_then(|text| text.as_str())
            .unwrap_or("")
    }

    /// The first sentence of the documentation, on one line.
    pub fn summary(&self) -> String {
        let paragraph = self.documentation().split("\n\n").next().unwrap_or("");
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        first_sentence(&line).to_owned()
    }
}

/// What stands before the first full stop that ends a sentence: not one within brackets, and not one of an abbreviation.
fn first_sentence(text: &str) -> &str {
    const ABBREVIATIONS: [&str; 4] = ["al.", "e.g.", "i.e.", "vs."];
    let mut depth = 0_i32;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            '.' if depth == 0 && text.get(at + 1..).is_some_and(|rest| rest.starts_with(' ')) => {
                let sentence = text.get(..=at).unwrap_or(text);
                let word = sentence.rsplit(' ').next().unwrap_or_default();
                if !ABBREVIATIONS.contains(&word) {
                    return sentence;
                }
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_where_a_reader_would_end_it() {
        let cases = [
            (
                "Moves scales (Lin et al. 2023). More.",
                "Moves scales (Lin et al. 2023).",
            ),
            ("As Xiao et al. did. Then more.", "As Xiao et al. did."),
            ("One sentence only", "One sentence only"),
            ("Version 1.5 of it. More.", "Version 1.5 of it."),
        ];
        for (text, sentence) in cases {
            assert_eq!(first_sentence(text), sentence);
        }
    }

    #[test]
    fn every_pass_is_documented_and_builds_from_nothing_and_from_its_defaults() {
        for entry in entries() {
            assert!(
                entry.summary().ends_with('.') && entry.summary().len() <= 160,
                "{}: {}",
                entry.name,
                entry.summary()
            );
            let built = build(entry.name, serde_json::json!({})).unwrap().unwrap();
            assert_eq!(built.about().name, entry.name);
            assert_eq!(default(entry.name).unwrap().about().name, entry.name);
            assert!(
                entry.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{}",
                entry.name
            );
            let options = entry
                .schema
                .get("properties")
                .and_then(|properties| properties.as_object())
                .into_iter()
                .flatten();
            for (option, schema) in options {
                assert!(!option.contains('_'), "{}: {option}", entry.name);
                assert!(
                    schema.get("description").is_some(),
                    "{}: {option} is not documented",
                    entry.name
                );
            }
        }
    }

    #[test]
    fn unknown_passes_and_options_are_refused() {
        assert!(build("fold-constant", serde_json::json!({})).unwrap().is_none());
        assert!(build("fold-constants", serde_json::json!({"no-such-option": 1})).is_err());
    }
}

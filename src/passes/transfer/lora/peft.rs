//! What PEFT writes beside an adapter: `adapter_config.json`.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use crate::schema::PatternError;

/// The name of the file.
pub(super) const FILE: &str = "adapter_config.json";

/// The fields that say how an adapter counts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    peft_type: Option<String>,
    lora_alpha: Option<f64>,
    alpha_pattern: BTreeMap<String, f64>,
    use_rslora: bool,
    use_dora: bool,
}

/// Why an adapter is not merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// The file is no JSON of this form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Another kind.
    #[error("the adapter is {0}; only LoRA is merged")]
    Kind(String),
}

impl Config {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        Ok(serde_json::from_str(text)?)
    }

    /// Refuses kinds that are not `W + factor · B · A`.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.peft_type {
            Some(kind) if kind != "LORA" => Err(ConfigError::Kind(kind.clone())),
            _ if self.use_dora => Err(ConfigError::Kind("DoRA".to_owned())),
            _ => Ok(()),
        }
    }

    /// Alpha of a module.
    pub(super) fn alpha(&self, module: &str) -> Result<Option<f64>, PatternError> {
        Ok(by_pattern(&self.alpha_pattern, module)?.or(self.lora_alpha))
    }

    /// Whether alpha is divided by the root of the rank (Kalajdzievski, 2023).
    pub(super) fn stabilised(&self) -> bool {
        self.use_rslora
    }
}

/// The number of the first pattern that a module's name ends with, from the beginning of a word on.
pub(super) fn by_pattern(
    patterns: &BTreeMap<String, f64>,
    module: &str,
) -> Result<Option<f64>, PatternError> {
    for (pattern, value) in patterns {
        let whole = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"));
        if whole
            .map_err(|error| PatternError::of(pattern, &error))?
            .is_match(module)
        {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_end_of_a_name() {
        let config = Config::parse(
            r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "alpha_pattern": {"q_proj": 4}, "use_rslora": true}"#,
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(config.alpha("enc.0.q_proj").unwrap(), Some(4.0));
        assert_eq!(config.alpha("enc.0.eq_proj").unwrap(), Some(16.0));
        assert!(config.stabilised());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        for (text, kind) in [
            (r#"{"peft_type": "LOHA"}"#, "LOHA"),
            (r#"{"peft_type": "LORA", "use_dora": true}"#, "DoRA"),
        ] {
            let error = Config::parse(text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
        }
    }
}

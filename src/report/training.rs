//! What a trained head was trained on, and how well it fits.

use super::table::{Style, table};
use crate::passes::HeadTraining;

/// Classes that a table lists at most, if not all are asked for.
const SHOWN_CLASSES: usize = 24;

/// Figures of a trained head and its classes; all of them, or the first.
pub fn trained(style: Style, training: &HeadTraining, all: bool) -> String {
    let mut rows = vec![
        vec!["samples".to_owned(), training.samples.to_string()],
        vec!["features".to_owned(), training.features.to_string()],
    ];
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| vec![name.to_owned(), value]));
    };
    row(
        "cross-entropy",
        training.cross_entropy.map(|loss| format!("{loss:.5}")),
    );
    row(
        "accuracy on these samples",
        training.accuracy.map(|share| format!("{:.2} %", share * 100.0)),
    );
    if !training.classes.is_empty() {
        row("classes", Some(training.classes.len().to_string()));
    }
    let mut text = table(style, &["training", ""], true, rows);
    let listed = match all {
        true => training.classes.len(),
        false => training.classes.len().min(SHOWN_CLASSES),
    };
    if listed == 0 {
        return text;
    }
    let named = |index: u64, name: &Option<String>| name.clone().unwrap_or_else(|| format!("label {index}"));
    let classes = training.classes.iter().take(listed).map(|class| {
        vec![
            class.index.to_string(),
            named(class.index, &class.name),
            class.samples.to_string(),
        ]
    });
    text += "\n\n";
    text += &table(style, &["class", "name", "samples"], false, classes);
    let more = training.classes.len() - listed;
    if more > 0 {
        text += &format!("\nand {more} more (--verbose)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::TrainedClass;

    #[test]
    fn samples_loss_accuracy_and_every_class_are_shown() {
        let class = |index, name: &str, samples| TrainedClass {
            index,
            name: Some(name.to_owned()),
            samples,
        };
        let training = HeadTraining {
            samples: 12,
            features: 8,
            cross_entropy: Some(0.25),
            steps: Some(3),
            accuracy: Some(0.75),
            classes: vec![class(0, "cat", 7), class(1, "dog", 5)],
        };
        let text = trained(Style::Terminal, &training, false);
        for part in ["samples", "12", "0.25000", "75.00 %", "cat", "dog", "7", "5"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

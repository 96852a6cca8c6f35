//! Which of several boxes around one thing stays.

use std::collections::BTreeMap;

use super::layout::Prediction;
use crate::data::BoxesSpec;

/// Greedy non-maximum suppression: predictions from the best score on, without those that overlap a better one of the same class (or of
/// any) by more than `layout.nms`. Equal scores stand in the order of the outputs.
pub(super) fn suppressed(mut all: Vec<Prediction>, layout: &BoxesSpec) -> Vec<Prediction> {
    all.retain(|prediction| !prediction.score.is_nan());
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let most = layout.most.unwrap_or(300);
    let limit = layout.nms.unwrap_or(1.0);
    if limit >= 1.0 {
        all.truncate(most);
        return all;
    }
    let across = layout.across_classes.unwrap_or(false);
    let mut kept: Vec<Prediction> = Vec::new();
    let mut by_class: BTreeMap<usize, Vec<[f64; 4]>> = BTreeMap::new();
    for prediction in all {
        if kept.len() == most {
            break;
        }
        let rivals = by_class
            .entry(if across { 0 } else { prediction.class })
            .or_default();
        if rivals
            .iter()
            .any(|other| overlap(other, &prediction.corners) > limit)
        {
            continue;
        }
        rivals.push(prediction.corners);
        kept.push(prediction);
    }
    kept
}

/// Intersection over union of two boxes given by their corners; 0 where both are empty.
pub(super) fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |c: &[f64; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let both = side(0, 2) * side(1, 3);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

//! The nearest valid name to a misspelt one.

/// The candidate with the fewest edits to `name`, if they are few enough to be a slip.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one text into the other; case counts for nothing.
fn distance(a: &str, b: &str) -> usize {
    strsim::osa_distance(&a.to_ascii_lowercase(), &b.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["simplify", "quantize", "bind", "prune-channels"];
        assert_eq!(nearest("simplfy", names), Some("simplify"));
        assert_eq!(nearest("quantise", names), Some("quantize"));
        assert_eq!(nearest("bnid", names), Some("bind"));
        assert_eq!(nearest("prune-chanels", names), Some("prune-channels"));
        assert_eq!(nearest("distill", names), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(
            (
                distance("bind", "bnid"),
                distance("", "abc"),
                distance("abc", "abc")
            ),
            (1, 3, 0)
        );
    }
}

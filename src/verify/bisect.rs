//! Finding the one rewrite that breaks a model.

/// The smallest number from 1 to `most` for which `broken` says yes, given that it says no for 0 and that, once broken, more
/// rewrites do not repair a model. `None` if it says no for `most`.
///
/// `broken` is asked about log2(`most`) times.
pub fn smallest_breaking<E>(
    most: u64,
    mut broken: impl FnMut(u64) -> Result<bool, E>,
) -> Result<Option<u64>, E> {
    if most == 0 || !broken(most)? {
        return Ok(None);
    }
    let (mut sound, mut breaking) = (0, most);
    while breaking - sound > 1 {
        let middle = sound + (breaking - sound) / 2;
        if broken(middle)? {
            breaking = middle;
        } else {
            sound = middle;
        }
    }
    Ok(Some(breaking))
}

#[cfg(test)]
mod tests {
    use super::smallest_breaking;

    #[test]
    fn every_place_is_found_with_few_questions() {
        for breaking in 1..=100u64 {
            let mut questions = 0;
            let found = smallest_breaking(100, |fuel| {
                questions += 1;
                Ok::<bool, ()>(fuel >= breaking)
            });
            assert_eq!(found, Ok(Some(breaking)));
            assert!(questions <= 8, "{questions}");
        }
    }

    #[test]
    fn a_sound_model_has_no_breaking_rewrite() {
        assert_eq!(smallest_breaking(10, |_| Ok::<bool, ()>(false)), Ok(None));
        assert_eq!(smallest_breaking(0, |_| Ok::<bool, ()>(true)), Ok(None));
    }
}

//! Which layer gets more bits next: the one whose noise falls most for each bit that is added.

use serde::{Deserialize, Serialize};

/// One precision that a layer may have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Choice {
    /// Bits of all codes of the layer.
    pub(super) bits: u64,
    /// Bytes of codes, scales and zero points.
    pub(super) bytes: u64,
    /// Noise that the layer alone causes, as a share of the signal's power.
    pub(super) noise: f64,
}

/// A configuration: for each layer the index of its choice.
pub(super) type Configuration = Vec<usize>;

/// What a configuration costs. Noise of layers adds up: errors of different layers hardly correlate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) bits: u64,
    pub(super) bytes: u64,
    pub(super) noise: f64,
}

pub(super) fn cost(layers: &[Vec<Choice>], configuration: &[usize]) -> Cost {
    layers
        .iter()
        .zip(configuration)
        .filter_map(|(choices, at)| choices.get(*at))
        .fold(Cost::default(), |sum, choice| Cost {
            bits: sum.bits + choice.bits,
            bytes: sum.bytes + choice.bytes,
            noise: sum.noise + choice.noise,
        })
}

/// Configurations from the narrowest to the widest, one upgrade after the other as long as `fits` accepts the cost; an upgrade that
/// does not fit is left out and smaller ones after it are tried. Choices of each layer are in ascending order of bits.
pub(super) fn ladder(layers: &[Vec<Choice>], fits: impl Fn(Cost) -> bool) -> Vec<Configuration> {
    let mut current: Configuration = vec![0; layers.len()];
    let mut rungs = vec![current.clone()];
    let mut closed = vec![usize::MAX; layers.len()];
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (layer, choices) in layers.iter().enumerate() {
            let (Some(at), Some(limit)) = (current.get(layer), closed.get(layer)) else {
                continue;
            };
            let Some(now) = choices.get(*at) else { continue };
            for (to, choice) in choices
                .iter()
                .enumerate()
                .skip(at + 1)
                .take_while(|(to, _)| to < limit)
            {
                let (gain, price) = (now.noise - choice.noise, choice.bits.saturating_sub(now.bits));
                if gain <= 0.0 || price == 0 {
                    continue;
                }
                let worth = gain / price as f64;
                if best.is_none_or(|(most, _, _)| worth > most) {
                    best = Some((worth, layer, to));
                }
            }
        }
        let Some((_, layer, to)) = best else { return rungs };
        let mut next = current.clone();
        if let Some(slot) = next.get_mut(layer) {
            *slot = to;
        }
        if fits(cost(layers, &next)) {
            rungs.push(next.clone());
            current = next;
        } else if let Some(limit) = closed.get_mut(layer) {
            *limit = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<Vec<Choice>> {
        let layer = |elements: u64, noise: [f64; 2]| {
            [4, 8]
                .into_iter()
                .zip(noise)
                .map(|(bits, noise)| Choice {
                    bits: bits * elements,
                    bytes: bits * elements / 8,
                    noise,
                })
                .collect()
        };
        vec![
            layer(100, [0.1, 0.001]),
            layer(10, [0.2, 0.001]),
            layer(1000, [0.3, 0.002]),
        ]
    }

    #[test]
    fn layers_are_widened_in_the_order_of_noise_saved_for_each_bit() {
        let rungs = ladder(&layers(), |_| true);
        assert_eq!(rungs, [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_smaller_layers_after_it_are_tried() {
        let rungs = ladder(&layers(), |cost| cost.bits <= 4 * 1110 + 4 * 1000);
        assert_eq!(rungs.last(), Some(&vec![1, 1, 0]));
        let mut wide = layers();
        wide[2][0].noise = 1000.0;
        let rungs = ladder(&wide, |cost| cost.bits <= 4 * 1110 + 4 * 110);
        assert_eq!(rungs, [[0, 0, 0], [0, 1, 0], [1, 1, 0]]);
    }

    #[test]
    fn more_bits_that_do_not_help_are_not_spent() {
        let mut same = layers();
        same[0][1].noise = 0.2;
        assert_eq!(ladder(&same, |_| true).last(), Some(&vec![0, 1, 1]));
    }
}

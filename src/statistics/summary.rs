//! What values are summed up in.

use crate::linalg::Sums;
use crate::quantize::Histogram;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Extremes, and counts where they were asked for.
    pub histogram: Histogram,
    /// Sum and number of the elements of each channel (axis 1), where means were asked for and samples do not lie on that axis.
    pub channels: Option<(Sums<3>, u64)>,
    /// Lowest and highest value of each channel (axis 1), where they were asked for.
    pub channel_extremes: Option<Vec<(f32, f32)>>,
    /// Sums over the samples of each one's lowest and highest value, and their number, where they were asked for.
    pub sample_extremes: Option<(Sums<3>, u64)>,
    /// Whether counts and sums have the repeats in them that filled up a last batch, because it is not known which elements are
    /// theirs. Extremes are right all the same.
    pub repeats: bool,
}

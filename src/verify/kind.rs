//! What samples may be like.

/// What the float inputs of a sample are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Mean 0, variance 1.
    Normal,
    /// From 0 to 1, as images and probabilities are.
    Uniform,
    /// All zero.
    Zeros,
    /// All negative.
    Negative,
    /// A hundred times as large as normal.
    Large,
    /// Zeros of both signs, ones, denormal and large numbers among normal ones.
    Mixed,
    /// Halves and whole numbers near zero, many of them equal.
    Ties,
    /// Magnitudes from a millionth to a million, and integers over their whole type.
    Magnitudes,
    /// The constants at which the models turn, and numbers on either side.
    Landmarks,
}

impl SampleKind {
    /// Every kind, in the order of samples.
    pub const ALL: [SampleKind; 9] = [
        Self::Normal,
        Self::Uniform,
        Self::Zeros,
        Self::Negative,
        Self::Large,
        Self::Mixed,
        Self::Ties,
        Self::Magnitudes,
        Self::Landmarks,
    ];

    /// What reports call such a sample's numbers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal numbers",
            Self::Uniform => "numbers from 0 to 1",
            Self::Zeros => "zeros",
            Self::Negative => "negative numbers",
            Self::Large => "large numbers",
            Self::Mixed => "denormal, zero and large numbers",
            Self::Ties => "ties and halves",
            Self::Magnitudes => "magnitudes from a millionth to a million",
            Self::Landmarks => "numbers at the models' own constants",
        }
    }

    /// Whether there are large numbers in such a sample.
    pub(super) fn is_wide(self) -> bool {
        matches!(
            self,
            Self::Large | Self::Mixed | Self::Magnitudes | Self::Landmarks
        )
    }
}

//! What convolution and pooling share: windows, and their transpose.

use super::super::emit::{Fault, Var, dims};
use super::Call;
use crate::ir::{Operator, Shape};

/// Windows over the spatial axes, one entry an axis.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    pub(super) kernel: Vec<i64>,
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    pub(super) before: Vec<i64>,
    pub(super) after: Vec<i64>,
    /// Sizes of the input.
    pub(super) input: Vec<i64>,
    /// Sizes of the output: windows an axis.
    pub(super) output: Vec<i64>,
}

impl Windows {
    /// The windows of an operator that goes from `x` to `y`, both `[N, C, spatial...]`, with `auto_pad` resolved.
    pub(super) fn of(c: &Call<'_>, kernel: Vec<i64>, x: &Var<'_>, y: &Var<'_>) -> Self {
        let (input, output) = (x.fixed_from(2), y.fixed_from(2));
        let rank = input.len();
        let list = |name: &str| {
            c.ints(name)
                .filter(|values| values.len() == rank)
                .unwrap_or_else(|| vec![1; rank])
        };
        let (strides, dilations) = (list("strides"), list("dilations"));
        if kernel.len() != rank
            || output.len() != rank
            || strides.iter().chain(&dilations).any(|step| *step < 1)
        {
            c.e.fault(Fault::Form(
                "its kernel, strides or dilations do not fit its input".to_owned(),
            ));
        }
        let pads = c
            .ints("pads")
            .filter(|pads| pads.len() == 2 * rank)
            .unwrap_or_else(|| vec![0; 2 * rank]);
        let (mut before, mut after) = (
            pads.iter().take(rank).copied().collect(),
            pads.iter().skip(rank).copied().collect(),
        );
        match c.operator.string("auto_pad") {
            Some(mode @ ("SAME_UPPER" | "SAME_LOWER")) => {
                let total = |axis: usize| {
                    let at = |list: &[i64]| list.get(axis).copied().unwrap_or(1);
                    let extent = (at(&kernel) - 1) * at(&dilations) + 1;
                    ((at(&output) - 1) * at(&strides) + extent - at(&input)).max(0)
                };
                let small: Vec<i64> = (0..rank).map(|axis| total(axis) / 2).collect();
                let large: Vec<i64> = (0..rank).map(|axis| total(axis) - total(axis) / 2).collect();
                (before, after) = if mode == "SAME_UPPER" {
                    (small, large)
                } else {
                    (large, small)
                };
            }
            Some("VALID") => {
                before = vec![0; rank];
                after = vec![0; rank];
            }
            _ => {}
        }
        Self {
            kernel,
            strides,
            dilations,
            before,
            after,
            input,
            output,
        }
    }

    /// Spatial axes.
    pub(super) fn rank(&self) -> usize {
        self.input.len()
    }

    /// One entry an axis: kernel, stride, dilation, pad before, input size, output size.
    fn axes(&self) -> impl Iterator<Item = [i64; 6]> + '_ {
        (0..self.rank()).map(|axis| {
            let at = |list: &[i64]| list.get(axis).copied().unwrap_or(1);
            [
                at(&self.kernel),
                at(&self.strides),
                at(&self.dilations),
                at(&self.before),
                at(&self.input),
                at(&self.output),
            ]
        })
    }

    /// Where the last window ends, counted from the first padded element, for each axis.
    pub(super) fn reach(&self) -> Vec<i64> {
        self.axes()
            .map(|[k, s, d, _, _, y]| (y - 1) * s + (k - 1) * d + 1)
            .collect()
    }

    /// The attributes of a convolution with these windows.
    pub(super) fn convolution(&self, operator: &str, group: i64) -> Operator {
        let pads = self
            .before
            .iter()
            .chain(&self.after)
            .copied()
            .collect::<Vec<i64>>();
        with_windows(operator, &self.strides, &self.dilations, pads, group)
    }

    /// The pads with which a plain convolution is the transpose of this one, where it is: without strides, and with pads that no window
    /// lies in wholly.
    fn pads_of_transpose(&self) -> Option<Vec<i64>> {
        let both = self.axes().map(|[k, s, d, before, x, y]| {
            let extent = (k - 1) * d;
            let pads = (extent - before, x - y + before);
            (s == 1 && pads.0 >= 0 && pads.1 >= 0).then_some(pads)
        });
        let both: Vec<(i64, i64)> = both.collect::<Option<_>>()?;
        let (before, after): (Vec<i64>, Vec<i64>) = both.into_iter().unzip();
        Some([before, after].concat())
    }

    /// [`Windows::spread`] as a convolution of `g`: engines have faster kernels for it than for ConvTranspose.
    fn turned<'e>(&self, g: &Var<'e>, w: &Var<'e>, group: i64, pads: Vec<i64>) -> Var<'e> {
        let kernel = turned_kernel(w, &self.kernel, group);
        let operator = with_windows("Conv", &self.strides, &self.dilations, pads, group);
        let mut shape: Shape = [g.dim(0), kernel.dim(0)].into_iter().collect();
        shape.extend(dims(&self.input));
        g.e.one(operator, &[g, &kernel], g.dtype, shape)
    }

    /// The transpose of the convolution with kernel `w` (`[C out of windows, C/group, k...]`): sums what each window
    /// contributes to each input element. `g` is `[N, C, windows...]`; the result is `[N, channels, input...]`.
    pub(super) fn spread<'e>(&self, g: &Var<'e>, w: &Var<'e>, group: i64) -> Var<'e> {
        if let Some(pads) = self.pads_of_transpose() {
            return self.turned(g, w, group, pads);
        }
        let channels = w.fixed(1) * group;
        // The end of the last window against the end of the input: what hangs over is cut by the end pad, what is missing
        // is padded afterwards. `output_shape` and `output_padding` say the same less exactly.
        let excess: Vec<i64> = self
            .reach()
            .iter()
            .zip(self.axes())
            .map(|(reach, [_, _, _, before, x, _])| reach - before - x)
            .collect();
        let cut: Vec<i64> = excess.iter().map(|excess| (*excess).max(0)).collect();
        let missing: Vec<i64> = excess.iter().map(|excess| (-excess).max(0)).collect();
        let pads = self.before.iter().chain(&cut).copied().collect();
        let operator = with_windows("ConvTranspose", &self.strides, &self.dilations, pads, group);
        let mut shape = g.shape.clone();
        shape.truncate(2);
        if let Some(dim) = shape.get_mut(1) {
            *dim = crate::ir::Dim::Fixed(channels);
        }
        shape.extend(
            self.input
                .iter()
                .zip(&missing)
                .map(|(x, missing)| crate::ir::Dim::Fixed(x - missing)),
        );
        let spread = g.e.one(operator, &[g, w], g.dtype, shape);
        let mut after = vec![0, 0];
        after.extend(missing);
        spread.pad(&vec![0; after.len()], &after, 0.0)
    }
}

/// The kernel of the transposed convolution: `[M, C/group, k...]` as `[C, M/group, k...]`, each axis of the window backwards.
fn turned_kernel<'e>(w: &Var<'e>, kernel: &[i64], group: i64) -> Var<'e> {
    let (rows, per_group) = (w.fixed(0) / group.max(1), w.fixed(1));
    let exchanged = match (group, rows, per_group) {
        (1, ..) => w.swap(0, 1),
        (_, 1, 1) => w.clone(),
        _ => {
            let shape = |leading: &[i64]| dims(&[leading, kernel].concat());
            w.reshape(&shape(&[group, rows, per_group]))
                .swap(1, 2)
                .reshape(&shape(&[group * per_group, rows]))
        }
    };
    let wide = kernel.iter().enumerate().filter(|(_, size)| **size > 1);
    wide.fold(exchanged, |turned, (axis, size)| {
        let backwards: Vec<i64> = (0..*size).rev().collect();
        turned.take(axis + 2, &backwards)
    })
}

/// A convolution operator with these attributes. Attributes at their defaults are written: engines disagree about defaults.
pub(super) fn with_windows(
    operator: &str,
    strides: &[i64],
    dilations: &[i64],
    pads: Vec<i64>,
    group: i64,
) -> Operator {
    Operator::new(operator)
        .with("strides", strides.to_vec())
        .with("dilations", dilations.to_vec())
        .with("pads", pads)
        .with("group", group)
}

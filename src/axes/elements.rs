//! Elements of axes: a union-find over all of them, and the products that tie split and joined axes.

/// Most elements of one axis, and of all.
const MAX_AXIS: usize = 1 << 22;
const MAX_ELEMENTS: usize = 1 << 28;

/// One axis of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Keeps its size: batch, space, time, and whatever no rule could give elements.
    Fixed,
    /// A run of elements.
    Free {
        /// First element.
        start: u32,
        /// Number of elements.
        len: u32,
    },
}

impl Axis {
    /// Number of elements; `None` for a fixed axis.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Fixed => None,
            Self::Free { len, .. } => Some(len as usize),
        }
    }

    /// Whether the axis has elements.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Free { .. })
    }

    /// The elements, in order.
    pub fn elements(self) -> std::ops::Range<u32> {
        match self {
            Self::Fixed => 0..0,
            Self::Free { start, len } => start..start + len,
        }
    }

    /// `len` elements from `offset` on; a fixed axis stays one.
    pub(super) fn part(self, offset: usize, len: usize) -> Axis {
        match self {
            Self::Fixed => Self::Fixed,
            Self::Free { start, .. } => Self::Free {
                start: start + offset as u32,
                len: len as u32,
            },
        }
    }
}

/// `whole[j * inner + l]` is removed exactly if `outer[j]` or `inner[l]` is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) whole: u32,
    pub(super) outer: (u32, u32),
    pub(super) inner: (u32, u32),
}

/// Union-find over elements; a class may be pinned, by the index of a reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Elements {
    parent: Vec<u32>,
    size: Vec<u32>,
    pin: Vec<Option<u32>>,
    pub(super) products: Vec<Product>,
}

impl Elements {
    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// `len` new elements; beyond what a layer has, a fixed axis: a model may declare any size.
    pub(super) fn fresh(&mut self, len: usize) -> Axis {
        if len > MAX_AXIS || self.parent.len() + len > MAX_ELEMENTS {
            return Axis::Fixed;
        }
        let start = self.parent.len() as u32;
        let end = start + len as u32;
        self.parent.extend(start..end);
        self.size.resize(end as usize, 1);
        self.pin.resize(end as usize, None);
        Axis::Free {
            start,
            len: len as u32,
        }
    }

    pub(super) fn find(&mut self, element: u32) -> u32 {
        let mut at = element as usize;
        while let Some(&up) = self.parent.get(at) {
            if up as usize == at {
                break;
            }
            let over = self.parent.get(up as usize).copied().unwrap_or(up);
            if let Some(slot) = self.parent.get_mut(at) {
                *slot = over;
            }
            at = over as usize;
        }
        at as u32
    }

    pub(super) fn union(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        let size = |at: u32| self.size.get(at as usize).copied().unwrap_or(0);
        let total = size(a) + size(b);
        let (up, down) = if size(a) >= size(b) { (a, b) } else { (b, a) };
        // The reason that was found first names the pin.
        let pin = match (self.pin_of_root(a), self.pin_of_root(b)) {
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        };
        if let (Some(parent), Some(size), Some(slot)) = (
            self.parent.get_mut(down as usize),
            self.size.get_mut(up as usize),
            self.pin.get_mut(up as usize),
        ) {
            *parent = up;
            *size = total;
            *slot = pin;
        }
    }

    pub(super) fn pin(&mut self, element: u32, reason: u32) {
        let root = self.find(element);
        if let Some(slot) = self.pin.get_mut(root as usize) {
            slot.get_or_insert(reason);
        }
    }

    pub(super) fn pin_of_root(&self, root: u32) -> Option<u32> {
        self.pin.get(root as usize).copied().flatten()
    }

    /// Ties `whole` to its factors, outermost first. A fixed factor cannot lose anything, so what it repeats is removed
    /// together. The product of the factors' sizes must be the size of `whole`.
    pub(super) fn product(&mut self, whole: Axis, factors: &[(usize, Axis)]) {
        let Axis::Free { start, len } = whole else { return };
        let factors: Vec<(usize, Axis)> = factors.iter().copied().filter(|(size, _)| *size != 1).collect();
        let Some(((size, first), rest)) = factors.split_first() else {
            return;
        };
        let inner = len as usize / (*size).max(1);
        if rest.is_empty() {
            for (a, b) in whole.elements().zip(first.elements()) {
                self.union(a, b);
            }
            return;
        }
        match first {
            Axis::Fixed => {
                for at in inner as u32..len {
                    self.union(start + at % inner as u32, start + at);
                }
                self.product(whole.part(0, inner), rest);
            }
            Axis::Free {
                start: outer,
                len: count,
            } if rest.iter().all(|(_, axis)| !axis.is_free()) => {
                for j in 0..*count {
                    for l in 0..inner as u32 {
                        self.union(outer + j, start + j * inner as u32 + l);
                    }
                }
            }
            Axis::Free {
                start: outer,
                len: count,
            } => {
                let remainder = match rest {
                    [(_, only)] => *only,
                    _ => self.fresh(inner),
                };
                if let Axis::Free {
                    start: below,
                    len: width,
                } = remainder
                {
                    self.products.push(Product {
                        whole: start,
                        outer: (*outer, *count),
                        inner: (below, width),
                    });
                }
                if rest.len() > 1 {
                    self.product(remainder, rest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_factor_ties_what_it_repeats() {
        let mut elements = Elements::default();
        let (whole, channels) = (elements.fresh(6), elements.fresh(2));
        elements.product(whole, &[(2, channels), (3, Axis::Fixed)]);
        assert_eq!(elements.find(0), elements.find(6));
        assert_eq!(elements.find(5), elements.find(7));
        assert_ne!(elements.find(2), elements.find(3));
        let (whole, channels) = (elements.fresh(6), elements.fresh(2));
        elements.product(whole, &[(3, Axis::Fixed), (2, channels)]);
        assert_eq!(elements.find(8), elements.find(12));
        assert_eq!(elements.find(8), elements.find(14));
        assert!(elements.products.is_empty());
    }

    #[test]
    fn the_first_reason_survives_a_union() {
        let mut elements = Elements::default();
        elements.fresh(3);
        elements.pin(2, 7);
        elements.pin(0, 3);
        elements.union(0, 2);
        let root = elements.find(2);
        assert_eq!(elements.pin_of_root(root), Some(3));
        assert_eq!(elements.pin_of_root(elements.clone().find(1)), None);
    }
}

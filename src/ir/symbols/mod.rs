//! Dimensions that are numbers, symbols (`dim_param`) or expressions of symbols in a normal form.
//!
//! An expression is a polynomial with integer coefficients whose atoms are symbols, floor divisions, minima and maxima.
//! Terms are sorted and merged, so equal polynomials compare equal: `N+N` is `2*N`. Every operation is exact or
//! answers [`Dim::Unknown`]: on overflow, on too large an expression, on division by something not known positive.
//! A symbol stands for a size, hence for a number that is at least 0.

mod text;

use std::sync::Arc;

use smallvec::SmallVec;

use super::name::Name;

/// Terms an expression may have before it counts as unknown.
const MAX_TERMS: usize = 16;
/// Nesting of divisions, minima and maxima before an expression counts as unknown.
const MAX_DEPTH: usize = 4;

/// One dimension of a tensor, or one element of a tensor that holds sizes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number. Dimensions are never negative; elements of a shape-valued tensor may be.
    Fixed(i64),
    /// An expression with at least one symbol.
    Expr(Arc<Expr>),
    /// Nothing is known. Two unknown dimensions are *not* known to be equal: see [`Dim::same`].
    Unknown,
}

/// A polynomial over atoms, in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expr {
    terms: Vec<(Monomial, i64)>,
}

type Monomial = SmallVec<[Atom; 2]>;

/// What an expression is built of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Name),
    /// floor(numerator / denominator), the denominator a positive number or known positive expression.
    FloorDiv(Arc<Expr>, Arc<Expr>),
    Max(Arc<Expr>, Arc<Expr>),
    Min(Arc<Expr>, Arc<Expr>),
}

/// A tensor shape: one [`Dim`] an axis.
pub type Shape = SmallVec<[Dim; 4]>;

impl Dim {
    /// A named dimension.
    pub fn symbol(name: impl Into<Name>) -> Self {
        Self::Expr(Arc::new(Expr {
            terms: vec![(SmallVec::from_iter([Atom::Symbol(name.into())]), 1)],
        }))
    }

    /// The number, if it is one.
    pub fn fixed(&self) -> Option<i64> {
        match self {
            Self::Fixed(value) => Some(*value),
            _ => None,
        }
    }

    /// The symbol's name, if the dimension is a bare symbol.
    pub fn as_symbol(&self) -> Option<&Name> {
        match self {
            Self::Expr(expr) => expr.as_symbol(),
            _ => None,
        }
    }

    /// Whether a number or an expression is known.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Whether both are known and equal for every value of the symbols.
    pub fn same(&self, other: &Dim) -> bool {
        self.is_known() && self == other
    }

    /// Whether both are known and differ for every value of the symbols.
    pub fn differs(&self, other: &Dim) -> bool {
        match self.sub(other) {
            Self::Fixed(difference) => difference != 0,
            Self::Expr(difference) => {
                let (low, high) = difference.bounds();
                low.is_some_and(|low| low > 0) || high.is_some_and(|high| high < 0)
            }
            Self::Unknown => false,
        }
    }

    /// Whether the value is at least `bound` for every value of the symbols.
    pub fn at_least(&self, bound: i64) -> bool {
        match self {
            Self::Fixed(value) => *value >= bound,
            Self::Expr(expr) => expr.bounds().0.is_some_and(|low| low >= bound),
            Self::Unknown => false,
        }
    }

    fn expr(&self) -> Option<Expr> {
        match self {
            Self::Fixed(0) => Some(Expr { terms: Vec::new() }),
            Self::Fixed(value) => Some(Expr {
                terms: vec![(Monomial::new(), *value)],
            }),
            Self::Expr(expr) => Some((**expr).clone()),
            Self::Unknown => None,
        }
    }

    fn atom(atom: Atom) -> Self {
        if atom.depth() > MAX_DEPTH {
            return Self::Unknown;
        }
        Self::Expr(Arc::new(Expr {
            terms: vec![(SmallVec::from_iter([atom]), 1)],
        }))
    }

    /// Sum.
    pub fn add(&self, other: &Dim) -> Dim {
        if let (Self::Fixed(a), Self::Fixed(b)) = (self, other) {
            return a.checked_add(*b).map_or(Self::Unknown, Self::Fixed);
        }
        let (Some(a), Some(b)) = (self.expr(), other.expr()) else {
            return Self::Unknown;
        };
        let mut terms = a.terms;
        terms.extend(b.terms);
        Expr::normal(terms)
    }

    /// Difference.
    pub fn sub(&self, other: &Dim) -> Dim {
        self.add(&other.mul(&Self::Fixed(-1)))
    }

    /// Product.
    pub fn mul(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => return a.checked_mul(*b).map_or(Self::Unknown, Self::Fixed),
            (Self::Fixed(0), Self::Unknown) | (Self::Unknown, Self::Fixed(0)) => return Self::Fixed(0),
            _ => {}
        }
        let (Some(a), Some(b)) = (self.expr(), other.expr()) else {
            return Self::Unknown;
        };
        if a.terms.len() * b.terms.len() > MAX_TERMS * MAX_TERMS {
            return Self::Unknown;
        }
        let mut terms = Vec::with_capacity(a.terms.len() * b.terms.len());
        for (left, x) in &a.terms {
            for (right, y) in &b.terms {
                let Some(coefficient) = x.checked_mul(*y) else {
                    return Self::Unknown;
                };
                let mut monomial: Monomial = left.iter().chain(right).cloned().collect();
                monomial.sort();
                terms.push((monomial, coefficient));
            }
        }
        Expr::normal(terms)
    }

    /// floor(self / other); unknown unless `other` is known to be positive.
    pub fn floor_div(&self, other: &Dim) -> Dim {
        if !other.at_least(1) {
            return match self.exact_div(other) {
                Some(quotient) => quotient,
                None => Self::Unknown,
            };
        }
        if let (Self::Fixed(a), Self::Fixed(b)) = (self, other) {
            return Self::Fixed(a.div_euclid(*b));
        }
        if let Some(quotient) = self.exact_div(other) {
            return quotient;
        }
        let (Some(a), Some(b)) = (self.expr(), other.expr()) else {
            return Self::Unknown;
        };
        // floor((q*d + r) / d) = q + floor(r / d) for a constant divisor.
        if let Some(divisor) = other.fixed() {
            if let Some((numerator, inner)) = a.as_shifted_quotient() {
                return inner.checked_mul(divisor).map_or(Self::Unknown, |product| {
                    numerator.floor_div(&Self::Fixed(product))
                });
            }
            let mut whole = Vec::new();
            let mut rest = Vec::new();
            for (monomial, coefficient) in a.terms {
                let (quotient, remainder) =
                    (coefficient.div_euclid(divisor), coefficient.rem_euclid(divisor));
                if quotient != 0 {
                    whole.push((monomial.clone(), quotient));
                }
                if remainder != 0 {
                    rest.push((monomial, remainder));
                }
            }
            let (whole, rest) = (Expr::normal(whole), Expr::normal(rest));
            return match rest {
                Self::Fixed(rest) => whole.add(&Self::Fixed(rest.div_euclid(divisor))),
                Self::Expr(rest) => whole.add(&Self::atom(Atom::FloorDiv(rest, Arc::new(b)))),
                Self::Unknown => Self::Unknown,
            };
        }
        Self::atom(Atom::FloorDiv(Arc::new(a), Arc::new(b)))
    }

    /// ceil(self / other); unknown unless `other` is known to be positive.
    pub fn ceil_div(&self, other: &Dim) -> Dim {
        if let Some(quotient) = self.exact_div(other) {
            return quotient;
        }
        self.add(other).sub(&Self::Fixed(1)).floor_div(other)
    }

    /// self - other * floor(self / other): the remainder with the divisor's sign.
    pub fn modulo(&self, other: &Dim) -> Dim {
        self.sub(&other.mul(&self.floor_div(other)))
    }

    /// The quotient when `other` divides every term: `(2*N*C) / N` is `2*C`. The divisor must be a number or one
    /// monomial; where it is zero the quotient has no meaning, and such sizes are never divided by.
    pub fn exact_div(&self, other: &Dim) -> Option<Dim> {
        let (a, b) = (self.expr()?, other.expr()?);
        let [(divisor, by)] = b.terms.as_slice() else {
            return (a == b && !a.terms.is_empty()).then_some(Self::Fixed(1));
        };
        let mut terms = Vec::with_capacity(a.terms.len());
        for (monomial, coefficient) in a.terms {
            if coefficient % by != 0 {
                return None;
            }
            let mut rest = monomial;
            for atom in divisor {
                let at = rest.iter().position(|candidate| candidate == atom)?;
                rest.remove(at);
            }
            terms.push((rest, coefficient / by));
        }
        Some(Expr::normal(terms))
    }

    /// The larger of both.
    pub fn max(&self, other: &Dim) -> Dim {
        self.extreme(other, true)
    }

    /// The smaller of both.
    pub fn min(&self, other: &Dim) -> Dim {
        self.extreme(other, false)
    }

    /// What `whole` is cut off at here, if this is the smaller of it and something else: 512 of `min(N, 512)` and `N`.
    pub fn cut_of(&self, whole: &Dim) -> Option<Dim> {
        let Self::Expr(expr) = self else { return None };
        let [(monomial, 1)] = expr.terms.as_slice() else {
            return None;
        };
        let [Atom::Min(a, b)] = monomial.as_slice() else {
            return None;
        };
        let whole = whole.expr()?;
        match (**a == whole, **b == whole) {
            (true, _) => Some(b.dim()),
            (_, true) => Some(a.dim()),
            _ => None,
        }
    }

    fn extreme(&self, other: &Dim, larger: bool) -> Dim {
        let difference = self.sub(other);
        if difference.at_least(0) {
            return if larger { self.clone() } else { other.clone() };
        }
        if difference.mul(&Self::Fixed(-1)).at_least(0) {
            return if larger { other.clone() } else { self.clone() };
        }
        let (Some(a), Some(b)) = (self.expr(), other.expr()) else {
            return Self::Unknown;
        };
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        Self::atom(if larger {
            Atom::Max(Arc::new(a), Arc::new(b))
        } else {
            Atom::Min(Arc::new(a), Arc::new(b))
        })
    }

    /// The value once each symbol has one; `None` when a symbol has none or the arithmetic overflows.
    pub fn evaluate(&self, symbol: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        match self {
            Self::Fixed(value) => Some(*value),
            Self::Expr(expr) => expr.evaluate(symbol),
            Self::Unknown => None,
        }
    }

    /// The dimension with some symbols replaced by other dimensions.
    pub fn substitute(&self, symbol: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Self::Expr(expr) => expr.substitute(symbol),
            other => other.clone(),
        }
    }

    /// Calls `visit` with each symbol's name, in a fixed order, repeats included.
    pub fn for_each_symbol(&self, visit: &mut dyn FnMut(&Name)) {
        if let Self::Expr(expr) = self {
            expr.for_each_symbol(visit);
        }
    }
}

impl Expr {
    fn normal(mut terms: Vec<(Monomial, i64)>) -> Dim {
        terms.sort_by(|a, b| a.0.cmp(&b.0));
        let mut merged: Vec<(Monomial, i64)> = Vec::with_capacity(terms.len());
        for (monomial, coefficient) in terms {
            match merged.last_mut() {
                Some(last) if last.0 == monomial => match last.1.checked_add(coefficient) {
                    Some(sum) => last.1 = sum,
                    None => return Dim::Unknown,
                },
                _ => merged.push((monomial, coefficient)),
            }
        }
        merged.retain(|term| term.1 != 0);
        match merged.as_slice() {
            [] => Dim::Fixed(0),
            [(monomial, value)] if monomial.is_empty() => Dim::Fixed(*value),
            _ if merged.len() > MAX_TERMS => Dim::Unknown,
            _ => Dim::Expr(Arc::new(Expr { terms: merged })),
        }
    }

    fn dim(&self) -> Dim {
        Self::normal(self.terms.clone())
    }

    fn as_symbol(&self) -> Option<&Name> {
        match self.terms.as_slice() {
            [(monomial, 1)] => match monomial.as_slice() {
                [Atom::Symbol(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The x and d of floor(x / d) + k, with d and k numbers, so that the expression is floor((x + k*d) / d): then a further
    /// division by e gives floor((x + k*d) / (d*e)), which keeps chains of halved sizes flat.
    fn as_shifted_quotient(&self) -> Option<(Dim, i64)> {
        let (quotient, shift) = match self.terms.as_slice() {
            [quotient] => (quotient, 0),
            [(constant, shift), quotient] if constant.is_empty() => (quotient, *shift),
            _ => return None,
        };
        let (monomial, 1) = quotient else { return None };
        let [Atom::FloorDiv(numerator, divisor)] = monomial.as_slice() else {
            return None;
        };
        let divisor = divisor.dim().fixed()?;
        let shifted = numerator.dim().add(&Dim::Fixed(shift.checked_mul(divisor)?));
        shifted.is_known().then_some((shifted, divisor))
    }

    /// Lowest and highest value over all sizes, where bounded.
    fn bounds(&self) -> (Option<i64>, Option<i64>) {
        let (mut low, mut high) = (Some(0i64), Some(0i64));
        for (monomial, coefficient) in &self.terms {
            let (term_low, term_high) =
                monomial
                    .iter()
                    .fold((Some(1i64), Some(1i64)), |(low, high), atom| {
                        let (atom_low, atom_high) = atom.bounds();
                        match (low, atom_low) {
                            (Some(l), Some(a)) if l >= 0 && a >= 0 => (
                                l.checked_mul(a),
                                high.zip(atom_high).and_then(|(h, b)| h.checked_mul(b)),
                            ),
                            _ => (None, None),
                        }
                    });
            let scale = |bound: Option<i64>| bound.and_then(|b| b.checked_mul(*coefficient));
            let (a, b) = (scale(term_low), scale(term_high));
            let (a, b) = if *coefficient < 0 { (b, a) } else { (a, b) };
            low = low.zip(a).and_then(|(x, y)| x.checked_add(y));
            high = high.zip(b).and_then(|(x, y)| x.checked_add(y));
        }
        (low, high)
    }

    fn evaluate(&self, symbol: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        self.terms.iter().try_fold(0i64, |sum, (monomial, coefficient)| {
            let product = monomial
                .iter()
                .try_fold(*coefficient, |p, atom| p.checked_mul(atom.evaluate(symbol)?))?;
            sum.checked_add(product)
        })
    }

    fn substitute(&self, symbol: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        self.terms
            .iter()
            .fold(Dim::Fixed(0), |sum, (monomial, coefficient)| {
                let product = monomial.iter().fold(Dim::Fixed(*coefficient), |product, atom| {
                    product.mul(&atom.substitute(symbol))
                });
                sum.add(&product)
            })
    }

    fn for_each_symbol(&self, visit: &mut dyn FnMut(&Name)) {
        for atom in self.terms.iter().flat_map(|(monomial, _)| monomial) {
            match atom {
                Atom::Symbol(name) => visit(name),
                Atom::FloorDiv(a, b) | Atom::Max(a, b) | Atom::Min(a, b) => {
                    a.for_each_symbol(visit);
                    b.for_each_symbol(visit);
                }
            }
        }
    }

    fn depth(&self) -> usize {
        self.terms
            .iter()
            .flat_map(|(monomial, _)| monomial)
            .map(Atom::depth)
            .max()
            .unwrap_or(0)
    }
}

impl Atom {
    fn depth(&self) -> usize {
        match self {
            Self::Symbol(_) => 0,
            Self::FloorDiv(a, b) | Self::Max(a, b) | Self::Min(a, b) => 1 + a.depth().max(b.depth()),
        }
    }

    fn bounds(&self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Symbol(_) => (Some(0), None),
            Self::FloorDiv(a, b) => {
                let (low, high) = a.bounds();
                match b.dim().fixed() {
                    Some(by) if by > 0 => (low.map(|v| v.div_euclid(by)), high.map(|v| v.div_euclid(by))),
                    _ => (low.filter(|v| *v >= 0).map(|_| 0), high.filter(|v| *v >= 0)),
                }
            }
            Self::Max(a, b) => {
                let ((a_low, a_high), (b_low, b_high)) = (a.bounds(), b.bounds());
                (a_low.max(b_low), a_high.zip(b_high).map(|(x, y)| x.max(y)))
            }
            Self::Min(a, b) => {
                let ((a_low, a_high), (b_low, b_high)) = (a.bounds(), b.bounds());
                let high = match (a_high, b_high) {
                    (Some(x), Some(y)) => Some(x.min(y)),
                    (x, y) => x.or(y),
                };
                (a_low.zip(b_low).map(|(x, y)| x.min(y)), high)
            }
        }
    }

    fn evaluate(&self, symbol: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        match self {
            Self::Symbol(name) => symbol(name),
            Self::FloorDiv(a, b) => {
                let (a, b) = (a.evaluate(symbol)?, b.evaluate(symbol)?);
                if b > 0 { a.checked_div_euclid(b) } else { None }
            }
            Self::Max(a, b) => Some(a.evaluate(symbol)?.max(b.evaluate(symbol)?)),
            Self::Min(a, b) => Some(a.evaluate(symbol)?.min(b.evaluate(symbol)?)),
        }
    }

    fn substitute(&self, symbol: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Self::Symbol(name) => symbol(name).unwrap_or_else(|| Dim::symbol(name.clone())),
            Self::FloorDiv(a, b) => a.substitute(symbol).floor_div(&b.substitute(symbol)),
            Self::Max(a, b) => a.substitute(symbol).max(&b.substitute(symbol)),
            Self::Min(a, b) => a.substitute(symbol).min(&b.substitute(symbol)),
        }
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Self::Fixed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n() -> Dim {
        Dim::symbol("N")
    }
    fn c() -> Dim {
        Dim::symbol("C")
    }
    fn k(value: i64) -> Dim {
        Dim::Fixed(value)
    }

    #[test]
    fn equal_polynomials_compare_equal() {
        assert_eq!(n().add(&n()), n().mul(&k(2)));
        assert_eq!(
            n().add(&c()).mul(&n().sub(&c())),
            n().mul(&n()).sub(&c().mul(&c()))
        );
        assert_eq!(n().sub(&n()), k(0));
        assert_eq!(n().mul(&c()).to_string(), c().mul(&n()).to_string());
    }

    #[test]
    fn divisions_are_exact_or_kept() {
        assert_eq!(n().mul(&k(6)).floor_div(&k(3)), n().mul(&k(2)));
        assert_eq!(n().mul(&c()).floor_div(&n()), c());
        assert_eq!(n().mul(&k(4)).add(&k(5)).floor_div(&k(4)), n().add(&k(1)));
        assert_eq!(
            n().sub(&k(1)).floor_div(&k(2)).to_string(),
            "floor((N + 1)/(2)) - 1"
        );
        assert_eq!(n().floor_div(&c()), Dim::Unknown);
        assert_eq!(k(-1).floor_div(&k(2)), k(-1));
        assert_eq!(n().add(&k(1)).floor_div(&k(2)).evaluate(&|_| Some(5)), Some(3));
    }

    #[test]
    fn chains_of_divisions_stay_flat() {
        let halved = |dim: &Dim| dim.sub(&k(1)).floor_div(&k(2)).add(&k(1));
        let sixth = (0..6).fold(n(), |dim, _| halved(&dim));
        assert_eq!(sixth.to_string(), "floor((N + 63)/(64))");
        for size in 0..300 {
            let expected = (0..6).fold(size, |dim: i64, _| (dim - 1).div_euclid(2) + 1);
            assert_eq!(sixth.evaluate(&|_| Some(size)), Some(expected));
        }
    }

    #[test]
    fn order_follows_from_sizes_being_at_least_zero() {
        assert_eq!(n().max(&k(0)), n());
        assert_eq!(n().add(&k(1)).min(&n()), n());
        assert!(n().add(&k(1)).differs(&k(0)));
        assert!(!n().differs(&k(0)));
        assert!(!n().differs(&c()));
        assert!(!Dim::Unknown.same(&Dim::Unknown));
    }

    #[test]
    fn what_cuts_a_size_off_is_told() {
        assert_eq!(n().min(&k(512)).cut_of(&n()), Some(k(512)));
        assert_eq!(c().min(&n()).cut_of(&n()), Some(c()));
        assert_eq!(n().min(&k(512)).cut_of(&c()), None);
        assert_eq!(n().min(&k(512)).add(&k(1)).cut_of(&n()), None);
        assert_eq!(n().max(&k(512)).cut_of(&n()), None);
    }

    #[test]
    fn overflow_is_unknown() {
        assert_eq!(k(i64::MAX).add(&k(1)), Dim::Unknown);
        assert_eq!(k(1 << 40).mul(&k(1 << 40)), Dim::Unknown);
        assert_eq!(n().mul(&k(1 << 40)).mul(&k(1 << 40)), Dim::Unknown);
    }

    #[test]
    fn substitution_normalises_again() {
        let expr = n().add(&k(3)).floor_div(&k(2)).mul(&c());
        let bound = expr.substitute(&|name| (name == "N").then_some(Dim::Fixed(5)));
        assert_eq!(bound, c().mul(&k(4)));
    }
}
